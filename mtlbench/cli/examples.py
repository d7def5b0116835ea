"""The examples that `--help` teaches by; no line is longer than a narrow terminal is wide."""

from __future__ import annotations

import textwrap

from mtlbench.cells.axes import AXES
from mtlbench.cells.placing import SBATCH
from mtlbench.engine.conformance.properties import PROMISES

_COLUMN = 22
_WIDTH = 79


def _names() -> str:
    """What a method may declare, and what each means."""
    lines = (textwrap.fill(f"  {key:<14}{what}", _WIDTH, subsequent_indent=" " * 16) for key, what in PROMISES.items())
    return "\n".join(lines)


EXAMPLES = {
    "": """\
  mtlbench run method=gradvac task=multimnist   train one cell, embedded data
  mtlbench list                                 what there is
  mtlbench show gradvac                         parameters, formula, conventions
  mtlbench table task=multimnist                the leaderboard of what has run
  mtlbench analyze task=nmt/families            how similar gradients are

`mtlbench COMMAND --help` teaches a command by example.""",
    "run": """\
  mtlbench run method=gradvac task=multimnist
      one cell: seed 0, the task's default variant and protocol, embedded data
  mtlbench run method=gradvac,pcgrad task=multimnist/mnist seed=0..4 jobs=2
      a grid of 10 cells, two at a time, on MNIST below $MTLBENCH_DATA
  mtlbench run method=gradvac method.beta=0.01,0.1 granularity=all_layer \\
      task=multimnist
      hyper-parameters and granularity are grid axes too
  mtlbench run method=scalarization method.weights=simplex:2:10 \\
      task=multimnist
      static weights of two objectives in 10 steps, to trace the front
  mtlbench run method=uniform task=multimnist protocol.optimizer.lr=0.001
      an overridden protocol; such runs get a table of their own
  mtlbench run grid.yaml jobs=2
      a YAML file of the same keys, then words that override it
  mtlbench run method=gradvac,uniform task=multimnist tune=8 seed=0..4
      tuned: 8 trials of each method in the same search space, a run-off of
      the best two on validation, the winner rerun on 5 fresh seeds
  mtlbench run method=gradvac treated=all,hrl,lrl task=nmt seed=0..2
      correct the gradients of all objectives, or of a group of them alone;
      beside `uniform`, as the task states
  mtlbench run method=gradvac task=nmt direction=x2en,en2x
      a word of the task's own, here for protocol.options.direction
  mtlbench run method=gradvac,uniform task=nmt sampling=temperature,unimax \\
      sampling.repeats=20
      other shares of a step for the languages, as a grid axis
  mtlbench run method=gradvac,uniform task=nmt geometry.every=epoch
      also record how similar gradients are, beside the records
  mtlbench run --plugin my_method.py method=my_method task=multimnist
  mtlbench run method=gradvac,uniform task=multimnist seed=0..9 on=slurm \\
      slurm.partition=gpu slurm.time=2:00:00 device=cuda
      the cells as jobs of Slurm, on a login node; docs/clusters.md tells more

keys of a cell
  method=NAME         required; `mtlbench list methods`
  method.KEY=VALUE    a hyper-parameter; `mtlbench show METHOD`
  task=NAME[/VARIANT] required; `mtlbench list tasks`
  protocol=NAME       by default the variant's own; `mtlbench show TASK`
  protocol.KEY=VALUE  override one value of the protocol
  WORD=VALUE          the same in short, for keys that a task has words of its
                      own for; `mtlbench show TASK`
  seed=0              initial weights, batches, dropout and visiting orders all
                      derive from it
AXES

keys of the run
  against=METHOD|none trained too, with its defaults at the same seeds, to
                      compare with; by default the variant's own
  tune=N              N trials of each method in the search space of TASK and
                      METHOD (`mtlbench show`); keys that are given leave it
  results=runs        the folder where records go
  jobs=N              cells at a time; by default as many as the cores carry
  data_root=DIR       real data sets; by default $MTLBENCH_DATA
  device=cpu|cuda|mps or cuda:0,cuda:1
                      several GPUs train one cell each
  on=local|slurm|ray  where cells are trained; by default on this machine
  time_limit=SECONDS  of training, for each cell
  checkpoint_steps=N  also save a checkpoint every N steps (always: at every
                      evaluation)
  processes=N         train each cell on N processes of this machine, one GPU
                      each on cuda; each takes its share of every batch; under
                      torchrun its processes do, on one host or several, one
                      cell after the other
  predictions=DIR     write what the model of the epoch that counts predicts on
                      the test split, for tasks that can (xtreme: in XTREME's
                      format for submissions; nyuv2: figures of some images,
                      truth and prediction); --predictions DIR is the same
  geometry.every=auto|epoch|N
                      also record the geometry of gradients, in geometry.npz
                      beside the record: before training, every N steps, and
                      after it; auto takes few snapshots, so that training is
                      less than a tenth longer on nmt/families
  geometry.batches=10 of probes, each with all objectives
  geometry.examples=5 of each objective in a batch of probes
  geometry.memory=4   GiB for gradients; what does not fit takes more time

keys with on=slurm (pip install 'mtlbench[slurm]')
SLURM
  slurm.setup=COMMAND a line of shell before each cell, such as module load cuda
  slurm.grace=120     seconds before the job's time limit at which a cell saves
                      a checkpoint and goes back to the queue
  slurm.poll=15       seconds between questions to Slurm

keys with on=ray (pip install 'mtlbench[ray]')
  ray.address=HOST:PORT
                      of a cluster; by default one is started here for the run
  ray.cpus=N ray.gpus=N ray.memory=GIB
                      of each cell; by default the cores that it computes with
                      and, with device=cuda, one GPU
  ray.tries=10        of a cell whose worker or node is lost

A finished cell is skipped, an interrupted one goes on from its checkpoint, a
failed one is a row with its reason and is tried again (a diverged one only
with --retry). Exit code: 0 all finished, 1 some failed, 2 a word was wrong and
nothing was written, 130 interrupted.""",
    "list": """\
  mtlbench list
  mtlbench list methods
  mtlbench list sampling      what share of a step each objective gets
  mtlbench list --plugin my_method.py""",
    "show": """\
  mtlbench show gradvac       formula, conventions, parameters with their types,
                              ranges and defaults
  mtlbench show multimnist    variants, protocols, short words for their keys
  mtlbench show nmt/families  one variant and its protocols
  mtlbench show unimax        a strategy of sampling, with its parameters""",
    "status": """\
  mtlbench status                    the cells under runs; what was sent to
                                     Slurm is asked for there
  mtlbench status results=my_results""",
    "table": """\
  mtlbench table
      every task/variant that has records under runs
  mtlbench table task=multimnist/mnist method=gradvac,uniform
      some rows; single-task training stays, as the base row of Delta-m
  mtlbench table task=multimnist --against pcgrad --selection last
      other choices: the row to compare with, the rule that selects epochs
  mtlbench table task=multimnist/mnist --format latex > table.tex
  mtlbench table --out tables
      all tables in all renderings (Markdown, CSV, LaTeX, HTML, JSON), figures,
      and an index page
  mtlbench table task=xtreme --sampling
      how much each score depends on the choice of its test examples
  mtlbench table task=multimnist/mnist --power
  mtlbench table task=multimnist/mnist --power 0.5
      how many seeds a difference needs, here one of 0.5 in the mean accuracy
  mtlbench table protocol=sener2018 --published
      beside what was published for the same protocol; never ranked with it

words  task=NAME[/VARIANT] method=NAMES protocol=NAME[@VERSION] seed=0..4
       regime=fixed|tuned results=DIR (by default runs)
rules  best-val, last, mean-last-N; oracle chooses on the test split and is
       shown with its gap
cells  `95.12 ± 0.08`: mean over seeds and half-width of its interval; `4/5`:
       one of five seeds has no result; with --sampling `(se 0.31, N 5000)`:
       standard error from the choice of the 5000 test examples
bold   cannot be told apart from the best of the column, in a test over at
       least two seeds; where there is no bold, a star. It need not be as good:
       the notes say how large a difference must be to be detectable
files  --out FILE ends in .md, .csv, .tex, .html or .json, or --format says
       what it is; a folder gets all of them

Records that differ in data or package versions are refused within one table
(exit code 1); --allow-mixed marks them instead.""",
    "analyze": """\
  mtlbench run method=gradvac task=nmt/families seed=0..2 geometry.every=epoch
  mtlbench analyze task=nmt/families
      record gradients along training, then the report on them: a page, figures
      as SVG and PNG, tables as CSV, and a summary, in the folder analysis
  mtlbench analyze results=results task=nmt --out geometry
      all runs of a task, a section for each variant; over several settings the
      report asks whether similarity goes with quality
  mtlbench analyze runs/nmt/families/cpu@1/gradvac/seed0-0123456789ab
      one cell
  mtlbench analyze task=nmt/families --step 90 --step last --kind unaligned
      other snapshots, and cosines that hold the noise of small batches
  mtlbench analyze task=nmt/families --granularity enc_dec
      similarity of encoder and decoder apart

runs   the folder of a cell, a folder of results, or the words of
       `mtlbench table`: task=NAME[/VARIANT] method=NAMES protocol=NAME
       seed=0..4 regime=fixed|tuned results=DIR (by default runs)
kinds  disattenuated: as it would be without noise; unaligned: of different
       examples, as a training step meets them; aligned: of the same examples,
       whose common noise counts as similarity

Seeds of one setting are averaged. What relations there are, such as a family
tree, the task tells; each stands beside its controls: what needs no model,
and the untrained model.""",
    "draw": """\
  mtlbench run method=uniform,pcgrad,mgda task=toy/nash start=1..5 \\
      predictions=runs
  mtlbench draw toy/nash
      where each method takes the point from five starting points, over the
      landscape and between the losses, as PNG and SVG below figures/
  mtlbench draw toy/nash method=pcgrad results=DIR predictions=DIR --out DIR

What is drawn is what runs wrote with predictions=DIR, in the same folders as
their records; without the word it is looked for beside these.""",
    "controls": """\
  mtlbench controls
      all of them: train what is not finished under runs, show the tables, and
      say of each expectation whether it holds
  mtlbench controls scale surgery jobs=2 --quiet
      two of them, by the names of their variants (or as controls/scale)
  mtlbench controls seed=0..2
      other seeds than stated: fewer are quicker and see less
  mtlbench controls results=results --out results/controls/README.md
      the same, and a page with all of it

What must come out stands beside the protocols of a task (expectations.yaml):
which row is told apart from which and by how much, which is not, and which
are bold. `mtlbench show controls` describes the problems.

keys   seed=0..4 results=DIR (by default runs) jobs=N

Finished cells are not trained again. Exit code: 0 everything holds, 1
something fails, 2 a word was wrong and nothing was written, 130 interrupted.""",
    "reproduce": """\
  mtlbench reproduce results/multimnist/digits/digits@1/uniform/seed0-*
      train the cell of this record again, in a folder that is removed
      afterwards, and compare every loss and score of every evaluation
  mtlbench reproduce RECORD RECORD results=again --out report.json
      two cells; keep their new records under again, and the comparison as JSON
  ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 \\
  MKL_ENABLE_INSTRUCTIONS=AVX2 mtlbench reproduce RECORD --out processors
      with kernels for other processors, told as such; a folder has a report
      for each kind of processor, and a page of all

A RECORD is the folder of a cell, or the record.json in it. Records of other
seeds beside it tell how large the noise of seeds is.

keys   results=DIR (removed afterwards where it is not said) data_root=DIR
       device=cpu|cuda|mps jobs=N

Exit code: 0 the same to the bit, 1 not the same or a cell failed, 2 a word was
wrong and nothing was written, 130 interrupted.""",
    "data": """\
  mtlbench data status                 every data set of every task
  mtlbench data status nmt --files     with the name of every file
  mtlbench data fetch multimnist/mnist data_root=~/data
  mtlbench data verify multimnist/mnist
      compare checksums

The data root is data_root=DIR or the environment variable MTLBENCH_DATA.""",
    "new": """\
  mtlbench new method my_idea      writes my_idea.py, ready for --plugin
  mtlbench new task my_task        writes my_task.py, ready for --plugin""",
    "check": f"""\
  mtlbench check gradvac          a registered method
  mtlbench check multimnist       the default variant of a task
  mtlbench check nmt/families     a variant by its name
  mtlbench check my_idea.py       the methods and tasks that a file registers
  mtlbench check --plugin my_task.py my_task/large
  mtlbench check unimax sampling.repeats=2
      a strategy of sampling, with a parameter that has no default
  mtlbench check pcgrad method.shuffle=false
      a method under other parameters: what it promises may depend on them

Nothing is trained but toys. Of every property it says that it
  holds           in all trials
  declared        not to be promised: the class says why, in its exceptions
  violated        and what was seen
  not applicable  and why it says nothing here

What is promised unless a method says otherwise by its definition, as in
  exceptions = {{"order": "one objective has priority"}}
{_names()}

Exit code: 0 nothing is violated, 1 something is.""",
    "bench": """\
  mtlbench bench
      Gramian, weights and combination against the floor: reading the Jacobian
      twice
  mtlbench bench combination K=2,8,16 P=1e6,1e7 method=gradvac,pcgrad
  mtlbench bench combination K=8 P=1e7 layout=whole_model,all_layer,all_matrix
      on the parameter list of a Transformer
  mtlbench bench steps
      whole steps of every method against uniform: one input with K heads, and
      a batch per objective
  mtlbench bench steps task=multimnist method=gradvac,mgda --out steps.json
  mtlbench bench steps task=nmt/families direction=both K=3,8 method=gradvac
      the first K language pairs of a batch: throughput relative to uniform,
      memory beyond uniform's by 4KP bytes
  mtlbench bench steps shape=heads K=8 method=gradvac refresh=10
      weights computed every tenth step: the mean cost of a step
  mtlbench bench steps shape=heads K=8 method=mgda wrt=representation
      gradients with respect to what heads read: one pass through the encoder
  mtlbench bench weights K=8 groups=1,100 method=nash_mtl,cagrad
      what a method's own mathematics takes, apart from gradients
  mtlbench bench processes processes=2 K=8 method=gradvac
      a step on several processes against the plain sum of
      DistributedDataParallel; bytes sent and memory against their formulas
  mtlbench bench tables records=10000
      `mtlbench table` over generated records: time against only reading their
      JSON, and peak memory
  mtlbench bench geometry task=nmt/families direction=both K=20
      recording the geometry of gradients against the training it looks at
  mtlbench bench nmt length=40 beams=4 threads=1
      the benchmark of a task: greedy decoding and beam search, the decoder's
      cache against none
  mtlbench bench xtreme K=8 method=gradvac threads=1
      fine-tuning on tagged sentences: subwords per second against a plain loop
      of transformers on the same batches, and against uniform

keys of combination and steps
  method=NAMES device=cpu|cuda repeats=N threads=N memory=yes|no torchjd=yes|no
keys of combination
  K=2,8 P=1e6 dtype=float32|bfloat16|float64
  layout=flat|whole_model|enc_dec|all_layer|all_matrix
keys of steps
  K=4,8 shape=heads,separate granularity=NAME refresh=N
  wrt=parameters|representation
  or task=NAME[/VARIANT] K=2,4 protocol=NAME protocol.KEY=VALUE data_root=DIR
keys of weights
  method=NAMES (by default all) K=2,8,32 groups=1,100 repeats=N threads=N
keys of processes
  method=NAMES K=8 P=2.5e6 processes=2 repeats=N
keys of geometry
  task=NAME[/VARIANT] K=20 method=NAMES every=auto|epoch|N batches=N examples=N
  device=cpu|cuda repeats=N threads=N protocol=NAME protocol.KEY=VALUE
keys of nmt
  size=tiny|small|base|big length=N beams=N sentences=N vocabulary=N
  device=cpu|cuda repeats=N threads=N memory=yes|no
keys of xtreme
  variant=families-pos|udpos|panx encoder=NAME K=8 sentences=8 method=NAMES
  granularity=NAME device=cpu|cuda repeats=N threads=N

Subjects take turns within every repeat; ratios are medians over repeats
(quartiles in parentheses).""",
}


def _axes() -> str:
    """The keys of the axes, with what they take and are about."""
    lines = []
    for name, axis in AXES.items():
        lines.append(f"  {name}={axis.takes}")
        lines += textwrap.wrap(
            axis.about, _WIDTH, initial_indent=" " * _COLUMN, subsequent_indent=" " * _COLUMN, break_on_hyphens=False
        )
    return "\n".join(lines)


def _sbatch() -> str:
    """The options of sbatch that can be given."""
    about = f"an option of sbatch: {', '.join(SBATCH)}"
    indent = " " * _COLUMN
    lines = textwrap.wrap(about, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join([f"  slurm.KEY=VALUE     {lines[0].strip()}", *lines[1:]])


EXAMPLES["run"] = EXAMPLES["run"].replace("AXES", _axes()).replace("SLURM\n", f"{_sbatch()}\n")
