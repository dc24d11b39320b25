# The model at work: scores of the unique alleles, shard by shard, and the sequence context of each sample's top variants.
# One thread a job: packs are small, so cores are better used by shards (a second thread beside other work costs more
# than it brings). `--set-threads score_alleles=4` gives a job more.
rule score_alleles:
    input:
        shard="<results>/shards/shard-{shard}.parquet",
        genome=GENOME,
        model=MODEL,
    output:
        "<results>/scores/scores-{shard}.parquet",
    log:
        "<logs>/scores/scores-{shard}.log",
    benchmark:
        "<benchmarks>/scores/scores-{shard}.tsv"
    conda:
        MODEL_ENV
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=GPUS,
    params:
        dnagrinder=DNAGRINDER,
        model=model_folder,
        scoring=SCORING + STORE,
        computing=COMPUTING,
    shell:
        "{params.dnagrinder} score-alleles {input.shard:q} --reference {input.genome[0]:q}"
        " --checkpoint {params.model:q} {params.scoring:q} {params.computing:q} --threads {threads}"
        " --out {output:q} > {log:q} 2>&1"


rule score_haplotypes:
    input:
        vcf=lambda wildcards: given([SETTINGS.callset(wildcards.callset).vcf]),
        genome=GENOME,
        model=MODEL,
    output:
        "<results>/callsets/{callset}/haplotypes.parquet",
    log:
        "<logs>/callsets/{callset}/haplotypes.log",
    benchmark:
        "<benchmarks>/callsets/{callset}/haplotypes.tsv"
    conda:
        MODEL_ENV
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=GPUS,
    params:
        dnagrinder=DNAGRINDER,
        model=model_folder,
        columns=columns,
        distance=SETTINGS.scoring.haplotype_distance,
        scoring=SCORING + STORE,
        computing=COMPUTING,
    shell:
        "{params.dnagrinder} score-haplotypes {input.vcf:q} --reference {input.genome[0]:q} {params.columns:q}"
        " --distance {params.distance} --checkpoint {params.model:q} {params.scoring:q} {params.computing:q}"
        " --threads {threads} --out {output:q} > {log:q} 2>&1"


rule score_context:
    input:
        scores="<results>/samples/{sample}/scores.parquet",
        panel=given([SETTINGS.report.panel] if SETTINGS.report.panel else []),
        genome=GENOME,
        model=MODEL,
    output:
        context="<results>/samples/{sample}/context.parquet",
        tracks=expand(
            "<results>/samples/{{sample}}/mutagenesis/{track}.bedgraph", track=TRACKS
        ),
    log:
        "<logs>/samples/{sample}/context.log",
    benchmark:
        "<benchmarks>/samples/{sample}/context.tsv"
    conda:
        MODEL_ENV
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=GPUS,
    params:
        dnagrinder=DNAGRINDER,
        model=model_folder,
        computing=COMPUTING,
        scoring=SCORING + STORE,
        top=SETTINGS.report.top,
        tracks=lambda wildcards, output: (
            [f"--tracks={os.path.dirname(output.tracks[0])}"] if output.tracks else []
        ),
        limits=SETTINGS.report.limits,
    shell:
        "{params.dnagrinder} score-context {input.scores:q} --reference {input.genome[0]:q} --checkpoint {params.model:q}"
        " {params.scoring:q} --top {params.top} {params.limits:q} {params.tracks:q} {params.computing:q}"
        " --threads {threads} --out {output.context:q} > {log:q} 2>&1"
