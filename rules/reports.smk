# Scores back to where they belong: each file of variants, each sample, the cohort.
rule annotate_variants:
    input:
        vcf=lambda wildcards: SETTINGS.callset(wildcards.callset).vcf,
        alleles="<results>/callsets/{callset}/alleles.parquet",
        ledger="<results>/callsets/{callset}/ledger.parquet",
        scores=SCORES,
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
        mem_mb=4000,
        runtime=120,
    params:
        dnagrinder=DNAGRINDER,
    shell:
        "{params.dnagrinder} annotate {input.vcf:q} {input.scores:q} --alleles {input.alleles:q}"
        " --ledger {input.ledger:q} --out {output.vcf:q} > {log:q} 2>&1"


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
    output:
        "<results>/samples/{sample}/scores.parquet",
        "<results>/samples/{sample}/ledger.parquet",
        "<results>/samples/{sample}/sample.json",
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
        mem_mb=4000,
        runtime=60,
    params:
        dnagrinder=DNAGRINDER,
        folder=lambda wildcards, output: os.path.dirname(os.path.dirname(output[0])),
        sample=lambda wildcards: SETTINGS.sample(wildcards.sample).selector,
    shell:
        "{params.dnagrinder} sample-tables {input.scores:q} --alleles {input.callset[0]:q}"
        " --ledger {input.callset[1]:q} --genotypes {input.callset[2]:q} --summary {input.callset[3]:q}"
        " --sample {params.sample:q} --out-dir {params.folder:q} > {log:q} 2>&1"


rule report_sample:
    input:
        tables=multiext(
            "<results>/samples/{sample}/",
            "scores.parquet",
            "ledger.parquet",
            "sample.json",
            "context.parquet",
        ),
        vcf=lambda wildcards: f"<results>/callsets/{SETTINGS.sample(wildcards.sample).callset}/scored.vcf.gz",
        genome=GENOME,
        model=MODEL,
        regions=SETTINGS.regions or [],
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
        mem_mb=2000,
        runtime=60,
    params:
        dnagrinder=DNAGRINDER,
        folder=output_folder,
        model=model_folder,
        regions=lambda wildcards, input: (
            [f"--regions={input.regions}", f"--reference={input.genome[0]}"]
            if input.regions
            else []
        ),
    shell:
        "{params.dnagrinder} report sample {params.folder:q} --checkpoint {params.model:q}"
        " --annotated-vcf {input.vcf:q} {params.regions:q} --out {output:q} > {log:q} 2>&1"


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
        mem_mb=4000,
        runtime=60,
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
        mem_mb=1000,
        runtime=120,
    params:
        dnagrinder=DNAGRINDER,
        folder=output_folder,
        config=lambda wildcards: without_secrets(json.dumps(config, sort_keys=True)),
        benchmarks=workflow.pathvars.apply("<benchmarks>"),
    shell:
        "{params.dnagrinder} provenance {params.folder:q} --config {params.config:q} --benchmarks {params.benchmarks:q}"
        " --out {output:q} > {log:q} 2>&1"
