# How well the model predicts each base of the regions in a BED, and the regions' pooled embeddings.
rule score_regions:
    input:
        regions=given([SETTINGS.regions] if SETTINGS.regions else []),
        genome=GENOME,
        model=MODEL,
    output:
        table=report(
            "<results>/regions/regions.parquet",
            caption="../workflow/report/regions.rst",
            category="Regions",
            labels={"file": "scores and embeddings (Parquet)"},
        ),
        track=report(
            "<results>/regions/regions.bedgraph",
            caption="../workflow/report/regions.rst",
            category="Regions",
            labels={"file": "mean log-likelihood per base (bedGraph)"},
        ),
        ledger="<results>/regions/ledger.tsv",
    log:
        "<logs>/regions/regions.log",
    benchmark:
        "<benchmarks>/regions/regions.tsv"
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
        computing=COMPUTING,
        reading=READING,
    shell:
        "{params.dnagrinder} score-regions {input.regions:q} --reference {input.genome[0]:q}"
        " --checkpoint {params.model:q} {params.reading:q} {params.computing:q} --threads {threads}"
        " --out {output.table:q} --bedgraph {output.track:q} --ledger {output.ledger:q} > {log:q} 2>&1"
