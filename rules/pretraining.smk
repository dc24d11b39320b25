# A model of the user's own, from FASTA files to an evaluated checkpoint: `snakemake pretrain`, with the section
# `pretraining` in the configuration.
PRETRAINING = SETTINGS.pretraining
RUN = f"<results>/pretraining/{PRETRAINING.run.name}"
TRAINED = [f"{RUN}/training/{PRETRAINING.run.name}/{name}" for name in CHECKPOINT_FILES]
MASKED = PRETRAINING.masked_sources()


def launched():
    """The command that trains: dnagrinder itself, or torchrun with a dnagrinder a GPU."""
    if PRETRAINING.processes == 1:
        return DNAGRINDER
    start, name = DNAGRINDER.rsplit(" -P -m ", 1)
    start = start.replace(
        "env ", "env PYTHONSAFEPATH=1 ", 1
    )  # -P, for the processes that torchrun starts as well
    count = f"--nproc-per-node={PRETRAINING.processes}"
    return f"{start} -m torch.distributed.run --standalone {count} -m {name}"


def masks_option(wildcards, input):
    """Params function: where the repeat intervals lie, if there are any."""
    return [f"--masks={os.path.dirname(input.masks[0])}"] if input.masks else []


def training_folder(wildcards, output):
    """Params function: the folder of the states, in which the checkpoint has its own."""
    return os.path.dirname(os.path.dirname(output[0]))


rule mask_repeats:
    input:
        lambda wildcards: given([MASKED[wildcards.fasta]]),
    output:
        f"{RUN}/masks/{{fasta}}.bed",
    log:
        "<logs>/pretraining/masks/{fasta}.log",
    benchmark:
        "<benchmarks>/pretraining/masks/{fasta}.tsv"
    wildcard_constraints:
        fasta=any_of(MASKED),
    shadow:
        "minimal"
    conda:
        "../envs/windowmasker.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        options="-outfmt interval -dust true",
    shell:
        "(gzip --decompress --stdout --force {input:q} > genome.fa"
        " && windowmasker -mk_counts -in genome.fa -out counts"
        " && windowmasker -ustat counts -in genome.fa {params.options} -out intervals"
        " && awk 'BEGIN {{ OFS = \"\\t\" }} /^>/ {{ contig = substr($1, 2); next }} {{ print contig, $1, $3 + 1 }}'"
        " intervals > {output:q}) > {log:q} 2>&1"


rule build_corpus:
    input:
        run_file=given([PRETRAINING.run_file]),
        fasta=given(str(source.path) for source in PRETRAINING.run.sources),
        panels=given(
            str(panel.path)
            for source in PRETRAINING.run.sources
            for panel in source.panels
        ),
        masks=expand(f"{RUN}/masks/{{fasta}}.bed", fasta=MASKED),
    output:
        directory(f"{RUN}/corpus"),
    log:
        "<logs>/pretraining/corpus.log",
    benchmark:
        "<benchmarks>/pretraining/corpus.tsv"
    conda:
        "../envs/dnagrinder.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        dnagrinder=DNAGRINDER,
        data=PRETRAINING.data,
        masks=masks_option,
    shell:
        "{params.dnagrinder} build-corpus {input.run_file:q} --data {params.data:q} {params.masks:q} --out {output:q}"
        " > {log:q} 2>&1"


rule train_tokenizer:
    input:
        run_file=given([PRETRAINING.run_file]),
        corpus=f"{RUN}/corpus",
    output:
        f"{RUN}/tokenizer.json",
    log:
        "<logs>/pretraining/tokenizer.log",
    benchmark:
        "<benchmarks>/pretraining/tokenizer.tsv"
    conda:
        "../envs/dnagrinder.yaml"
    threads: 4
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
    params:
        dnagrinder=DNAGRINDER,
    shell:
        "{params.dnagrinder} train-tokenizer {input.run_file:q} --corpus {input.corpus:q} --processes {threads}"
        " --out {output:q} > {log:q} 2>&1"


# The folder `training` keeps the states of a run that was stopped; the next attempt goes on from the newest, in the same time.
rule pretrain_model:
    input:
        run_file=given([PRETRAINING.run_file]),
        corpus=f"{RUN}/corpus",
        tokenizer=f"{RUN}/tokenizer.json",
    output:
        TRAINED,
    log:
        "<logs>/pretraining/training.log",
    benchmark:
        "<benchmarks>/pretraining/training.tsv"
    conda:
        MODEL_ENV
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 32000 * attempt,
        runtime=lambda wildcards, attempt: 10080,
        gpu=GPUS * PRETRAINING.processes,
    params:
        launched=launched(),
        folder=training_folder,
        device=f"--device={SETTINGS.scoring.device}",
        sharded=["--sharded"] if PRETRAINING.sharded else [],
        each=lambda wildcards, threads: max(1, threads // PRETRAINING.processes),
    shell:
        "{params.launched} pretrain {input.run_file:q} --corpus {input.corpus:q} --tokenizer {input.tokenizer:q}"
        " --out {params.folder:q} {params.device} {params.sharded} --threads {params.each} --processes {threads}"
        " > {log:q} 2>&1"


rule evaluate_model:
    input:
        run_file=given([PRETRAINING.run_file]),
        fasta=given(str(source.path) for source in PRETRAINING.run.sources),
        model=TRAINED,
    output:
        page=f"{RUN}/evaluation/evaluation.html",
        metrics=f"{RUN}/evaluation/metrics.json",
    log:
        "<logs>/pretraining/evaluation.log",
    benchmark:
        "<benchmarks>/pretraining/evaluation.tsv"
    conda:
        MODEL_ENV
    threads: 4
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=GPUS,
    params:
        dnagrinder=DNAGRINDER,
        data=PRETRAINING.data,
        checkpoint=model_folder,
        folder=output_folder,
    shell:
        "{params.dnagrinder} evaluate {input.run_file:q} --data {params.data:q} --checkpoint {params.checkpoint:q}"
        " --out {params.folder:q} --threads {threads} > {log:q} 2>&1"
