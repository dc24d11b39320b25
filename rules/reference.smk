# The reference genome and the model, brought to one place and checked.
rule fetch_reference:
    output:
        temp("<results>/reference/fetched.fa"),
    log:
        "<logs>/reference/fetch.log",
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 500 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        url=SETTINGS.reference.source,
        sha256=SETTINGS.reference.sha256 or "",
    shell:
        "{params.dnagrinder}.download {params.url:q} {params.sha256:q} {output:q} > {log:q} 2>&1"


rule prepare_reference:
    input:
        "<results>/reference/fetched.fa"
        if SETTINGS.reference.is_remote
        else given([SETTINGS.reference.source]),
    output:
        fasta="<results>/reference/genome.fa.gz",
        index=multiext("<results>/reference/genome.fa.gz", ".fai", ".gzi"),
        table="<results>/reference/genome.json",
    log:
        "<logs>/reference/genome.log",
    benchmark:
        "<benchmarks>/reference/genome.tsv"
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        dnagrinder=DNAGRINDER,
    shell:
        "{params.dnagrinder} prepare-reference {input:q} --out {output.fasta:q} > {log:q} 2>&1"


# Only for a workflow imported from a remote repository, whose weights (not text) Snakemake cannot bring along itself:
# they are taken from Snakemake's own clone of that repository.
rule fetch_checkpoint:
    output:
        [f"<results>/checkpoint/{{checkpoint}}/{name}" for name in CHECKPOINT_FILES],
    log:
        "<logs>/checkpoint/{checkpoint}.log",
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 500 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        clone="" if IS_CLONE else HERE.hosted_repo.repo.git_dir,
        ref="" if IS_CLONE else HERE.ref,
        folder=output_folder,
    shell:
        "(git --git-dir {params.clone:q} archive {params.ref:q} workflow/dnagrinder/checkpoints/{wildcards.checkpoint}"
        " | tar --extract --strip-components=4 --directory {params.folder:q}) > {log:q} 2>&1"
