# The workflow, run from a clone: `snakemake --cores all`. The rules live in workflow/Snakefile.
configfile: "config/config.yaml"


module dnagrinder:
    snakefile:
        "workflow/Snakefile"
    config:
        config


use rule * from dnagrinder
