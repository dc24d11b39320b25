# Scores back to where they belong: each file of variants, each sample, the cohort.
rule annotate_variants:
    input:
        vcf=lambda wildcards: given([SETTINGS.callset(wildcards.callset).vcf]),
        alleles="<results>/callsets/{callset}/alleles.parquet",
        ledger="<results>/callsets/{callset}/ledger.parquet",
        scores=SCORES,
        calibration=given([SETTINGS.calibration] if SETTINGS.calibration else []),
        genome=GENOME if SETTINGS.calibration else [],
        haplotypes=lambda wildcards: haplotypes_of(wildcards.callset),
    output:
        vcf=report(
            "<results>/callsets/{callset}/scored.vcf.gz",
            caption="../workflow/report/variants.rst",
            category="Scored variants",
            labels={"callset": "{callset}", "file": "VCF"},
        ),
        index="<results>/callsets/{callset}/scored.vcf.gz.tbi",
    log:
        "<logs>/callsets/{callset}/scored.log",
    benchmark:
        "<benchmarks>/callsets/{callset}/scored.tsv"
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        judging=judging,
        haplotypes=haplotypes_option,
    shell:
        "{params.dnagrinder} annotate {input.vcf:q} {input.scores:q} --alleles {input.alleles:q}"
        " --ledger {input.ledger:q} {params.judging:q} {params.haplotypes:q} --out {output.vcf:q} > {log:q} 2>&1"


rule annotate_sample:
    input:
        callset=lambda wildcards: multiext(
            f"<results>/callsets/{SETTINGS.sample(wildcards.sample).callset}/",
            "alleles.parquet",
            "ledger.parquet",
            "genotypes.parquet",
            "summary.json",
        ),
        scores=SCORES,
        calibration=given([SETTINGS.calibration] if SETTINGS.calibration else []),
        genome=GENOME if SETTINGS.calibration else [],
        haplotypes=lambda wildcards: haplotypes_of(
            SETTINGS.sample(wildcards.sample).callset
        ),
    output:
        "<results>/samples/{sample}/scores.parquet",
        "<results>/samples/{sample}/ledger.parquet",
        "<results>/samples/{sample}/sample.json",
        SAMPLE_HAPLOTYPES,
        report(
            "<results>/samples/{sample}/scores.tsv",
            caption="../workflow/report/scores.rst",
            category="Scored variants",
            labels={"callset": "{sample}", "file": "table"},
        ),
        report(
            "<results>/samples/{sample}/ledger.tsv",
            caption="../workflow/report/ledger.rst",
            category="Not scored, and why",
            labels={"sample": "{sample}"},
        ),
    log:
        "<logs>/samples/{sample}/scores.log",
    benchmark:
        "<benchmarks>/samples/{sample}/scores.tsv"
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        folder=lambda wildcards, output: os.path.dirname(os.path.dirname(output[0])),
        sample=lambda wildcards: SETTINGS.sample(wildcards.sample).selector,
        judging=judging,
        haplotypes=haplotypes_option,
    shell:
        "{params.dnagrinder} sample-tables {input.scores:q} --alleles {input.callset[0]:q}"
        " --ledger {input.callset[1]:q} --genotypes {input.callset[2]:q} --summary {input.callset[3]:q}"
        " --sample {params.sample:q} {params.judging:q} {params.haplotypes:q} --out-dir {params.folder:q} > {log:q} 2>&1"


rule cohort_distribution:
    input:
        expand(
            "<results>/samples/{sample}/{file}",
            sample=SAMPLES,
            file=["scores.parquet", "sample.json"],
        ),
    output:
        "<results>/cohort/distribution.json",
    log:
        "<logs>/cohort/distribution.log",
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        folders=lambda wildcards, input: list(
            dict.fromkeys(os.path.dirname(path) for path in input)
        ),
    shell:
        "{params.dnagrinder} report distribution {params.folders:q} --out {output:q} > {log:q} 2>&1"


rule family_candidates:
    input:
        vcf=lambda wildcards: given(
            [SETTINGS.callset(SETTINGS.family(wildcards.family)[0].callset).vcf]
        ),
        tables=lambda wildcards: [
            f"<results>/samples/{member.name}/{file}"
            for member in SETTINGS.family(wildcards.family)
            for file in ("scores.parquet", "sample.json")
        ],
        genome=GENOME,
        panel=given([SETTINGS.report.panel] if SETTINGS.report.panel else []),
    output:
        report(
            "<results>/families/{family}/candidates.tsv",
            caption="../workflow/report/family.rst",
            category="Families",
            labels={"family": "{family}"},
        ),
        "<results>/families/{family}/family.json",
    log:
        "<logs>/families/{family}/candidates.log",
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        folder=output_folder,
        samples=lambda wildcards, input: os.path.dirname(
            os.path.dirname(input.tables[0])
        ),
        members=lambda wildcards: [
            f"--member={member.name}:{member.role}:{member.sex or ''}:{member.phenotype or ''}"
            for member in SETTINGS.family(wildcards.family)
        ],
        limits=SETTINGS.report.limits,
    shell:
        "{params.dnagrinder} family-candidates {input.vcf:q} --family {wildcards.family:q} {params.members:q}"
        " --samples {params.samples:q} --reference {input.genome[0]:q} {params.limits:q}"
        " --out-dir {params.folder:q} > {log:q} 2>&1"


rule report_sample:
    input:
        tables=multiext(
            "<results>/samples/{sample}/",
            "scores.parquet",
            "ledger.parquet",
            "sample.json",
            "context.parquet",
        ),
        haplotypes=SAMPLE_HAPLOTYPES,
        vcf=lambda wildcards: f"<results>/callsets/{SETTINGS.sample(wildcards.sample).callset}/scored.vcf.gz",
        genome=GENOME,
        model=MODEL,
        regions=given([SETTINGS.regions] if SETTINGS.regions else []),
        distribution="<results>/cohort/distribution.json",
        panel=given([SETTINGS.report.panel] if SETTINGS.report.panel else []),
        family=lambda wildcards: family_of(wildcards.sample),
    output:
        report(
            "<results>/samples/{sample}/report.html",
            caption="../workflow/report/sample.rst",
            category="Reports",
            labels={"sample": "{sample}"},
        ),
    log:
        "<logs>/samples/{sample}/report.log",
    benchmark:
        "<benchmarks>/samples/{sample}/report.tsv"
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        folder=output_folder,
        model=model_folder,
        regions=lambda wildcards, input: (
            [f"--regions={input.regions}"] if input.regions else []
        ),
        limits=SETTINGS.report.limits,
        family=lambda wildcards, input: (
            [f"--family={input.family}"] if input.family else []
        ),
        igv="--igv" if SETTINGS.report.igv else "--no-igv",
    shell:
        "{params.dnagrinder} report sample {params.folder:q} --checkpoint {params.model:q}"
        " --annotated-vcf {input.vcf:q} --reference {input.genome[0]:q} {params.regions:q}"
        " --distribution {input.distribution:q} {params.limits:q} {params.family:q} {params.igv} --out {output:q} > {log:q} 2>&1"


rule report_cohort:
    input:
        tables=expand(
            "<results>/samples/{sample}/{file}",
            sample=SAMPLES,
            file=["scores.parquet", "ledger.parquet", "sample.json"],
        ),
        model=MODEL,
    output:
        page=report(
            "<results>/cohort/report.html",
            caption="../workflow/report/cohort.rst",
            category="Reports",
            labels={"sample": "all"},
        ),
        scores="<results>/cohort/scores.parquet",
        multiqc="<results>/cohort/dnagrinder_mqc.json",
    log:
        "<logs>/cohort/report.log",
    benchmark:
        "<benchmarks>/cohort/report.tsv"
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: (60 + len(SAMPLES)) * attempt,
    params:
        dnagrinder=DNAGRINDER,
        folders=lambda wildcards, input: list(
            dict.fromkeys(os.path.dirname(path) for path in input.tables)
        ),
        model=model_folder,
        provenance=lambda wildcards, output: os.path.join(
            os.path.dirname(os.path.dirname(output.page)), "provenance.json"
        ),
    shell:
        "{params.dnagrinder} report cohort {params.folders:q} --checkpoint {params.model:q} --scores {output.scores:q}"
        " --out {output.page:q} --multiqc {output.multiqc:q} --provenance {params.provenance:q} > {log:q} 2>&1"


# Last of all: what the results are, and what making them took.
rule write_provenance:
    input:
        RESULTS,
    output:
        report(
            "<results>/provenance.json",
            caption="../workflow/report/provenance.rst",
            category="Provenance",
            labels={"file": "files, checksums, versions and settings (RO-Crate)"},
        ),
    log:
        "<logs>/provenance.log",
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        folder=output_folder,
        config=lambda wildcards: without_secrets(json.dumps(config, sort_keys=True)),
        benchmarks=workflow.pathvars.apply("<benchmarks>"),
        files=lambda wildcards, input: "\n".join(input),
    shell:
        # the list comes by standard input: as arguments the files of some thousand samples would be too many
        "{params.dnagrinder} provenance {params.folder:q} --config {params.config:q} --benchmarks {params.benchmarks:q}"
        " --files-from - --out {output:q} > {log:q} 2>&1 <<'FILES'\n{params.files}\nFILES"
