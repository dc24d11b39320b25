# From each file of variants to normalised alleles, a ledger of what cannot be scored, and one list of unique alleles.
rule read_variants:
    input:
        vcf=lambda wildcards: given([SETTINGS.callset(wildcards.callset).vcf]),
        genome=GENOME,
    output:
        alleles="<results>/callsets/{callset}/alleles.parquet",
        ledger="<results>/callsets/{callset}/ledger.parquet",
        genotypes="<results>/callsets/{callset}/genotypes.parquet",
        summary="<results>/callsets/{callset}/summary.json",
    log:
        "<logs>/callsets/{callset}/alleles.log",
    benchmark:
        "<benchmarks>/callsets/{callset}/alleles.tsv"
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        columns=columns,
        window=SETTINGS.scoring.window,
    shell:
        "{params.dnagrinder} read-variants {input.vcf:q} --reference {input.genome[0]:q} --window {params.window}"
        " {params.columns:q} --alleles {output.alleles:q} --ledger {output.ledger:q}"
        " --genotypes {output.genotypes:q} --summary {output.summary:q} > {log:q} 2>&1"


rule unique_alleles:
    input:
        alleles=expand("<results>/callsets/{callset}/alleles.parquet", callset=CALLSETS),
        genome=GENOME,
        model=MODEL,
    output:
        shards=expand("<results>/shards/shard-{shard}.parquet", shard=SETTINGS.shards),
        stored="<results>/shards/stored.parquet",
    log:
        "<logs>/shards/unique.log",
    benchmark:
        "<benchmarks>/shards/unique.tsv"
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        folder=output_folder,
        shards=SETTINGS.scoring.shards,
        model=model_folder,
        scoring=SCORING + STORE,
    shell:
        "{params.dnagrinder} unique-alleles {input.alleles:q} --shards {params.shards} --out-dir {params.folder:q}"
        " --reference {input.genome[0]:q} --checkpoint {params.model:q} {params.scoring:q} > {log:q} 2>&1"
