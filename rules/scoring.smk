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


rule score_context:
    input:
        scores="<results>/samples/{sample}/scores.parquet",
        panel=SETTINGS.report.panel or [],
        genome=GENOME,
        model=MODEL,
    output:
        "<results>/samples/{sample}/context.parquet",
    log:
        "<logs>/samples/{sample}/context.log",
    benchmark:
        "<benchmarks>/samples/{sample}/context.tsv"
    conda:
        MODEL_ENV
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
        gpu=GPUS,
    params:
        dnagrinder=DNAGRINDER,
        model=model_folder,
        computing=COMPUTING,
        scoring=SCORING,
        top=SETTINGS.report.top,
        limits=SETTINGS.report.limits,
    shell:
        "{params.dnagrinder} score-context {input.scores:q} --reference {input.genome[0]:q} --checkpoint {params.model:q}"
        " {params.scoring:q} --top {params.top} {params.limits:q} {params.computing:q} --threads {threads}"
        " --out {output:q} > {log:q} 2>&1"
