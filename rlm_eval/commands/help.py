"""``--help``, one page, and ``rlm-eval list [GROUP...]``, what may be chosen, a line each."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from rlm_eval.config.spelling import Arguments, groups, nearest, options
from rlm_eval.errors import ConfigError

#: The most characters of what is said of a choice.
_WIDTH = 90

HELP = """\
rlm_eval: is a Recursive Language Model worth it, on this task, at this budget?

usage: python -m rlm_eval [key=value ...]        (Hydra's syntax; -m sweeps over a,b,c)

  task=NAME              aggregation (default), needle, multihop, ...: rlm-eval list task
    task.lengths=[...]   context lengths in tokens of task.tokenizer
    task.n=N             questions per length
  method=[a,b]           default: direct, rag_bm25, summarize_map_reduce, rlm; others: codeact,
                         rag_dense, compaction, no_context, ...: rlm-eval list method
                         (zsh: quote what has brackets, 'method=[a,b]')
    method.ARM.key=      a setting of one method, as in method.rlm.max_depth=0
    '+method@method.rlm_d0=rlm' method.rlm_d0.max_depth=0       a second arm of a method
  model=NAME             local (default: embedded, on the CPU), litellm, vllm, scripted,
                         openai_compatible, gpt-5, claude-sonnet-4-5, ...: rlm-eval list model
    model.name=          PROVIDER/MODEL for litellm; its key comes from the environment. For vllm
                         and openai_compatible (with model.api_base=): as the server lists it
    model.gguf=PATH      another GGUF file for model=local
  sub_model.key=         the sub-calls' model: the root model with this changed,
                         or sub_model=NAME for one of another kind; so summarize_model,
                         judge_model; embed_model=minilm for rag_dense and rag_hybrid
  sandbox=NAME           auto (default), landlock, bwrap, seatbelt, none
  budget.run.KEY=        caps: calls, tokens, usd, seconds; a spent run cap leaves the rest pending
  budget.sample.KEY=     the same for each question; spent: outcome budget_exceeded
  budget.matched=true    methods spend up to the sample's cap, each in its own way
  experiment=NAME        a set of settings from conf/experiment/: paper_table1, ablation/depth, ...
  shards=N               the run in N parts, joined at the end; hydra/launcher=processes, ray, slurm
  seed=0  repeats=1  temperature=0.0  concurrency=null  results_dir=results/runs
  dry_run=true           print what the run would take and stop; nothing is started
  --cfg                  print every setting with its comment, and stop

The same command again continues its run, or says that it is finished.
Commands, as python -m rlm_eval COMMAND or rlm-eval COMMAND (each has --help):
  ask FILE... "QUESTION"   an RLM's answer about your own files, turn by turn (key=value as above)
  resume RUN               go on with an interrupted run
  report RUN...            a static page: tables, figures, every trajectory;
                           --one-file: with all of it in the page
  compare A B              two runs, paired where samples are shared
  claims [RUN...]          what others have published, beside what was measured
  replay RUN...            tables from the journal, no model: same as recorded?
                           --rescore: the recorded answers by the present scorer
  merge RUN... --out DIR   the shards of one run, from several machines
  export OUT.jsonl task=NAME ...  a task's samples as a file
  export RUN --to inspect|sft      a run for inspect_ai or fine-tuning
  list [GROUP...]          what may be chosen, a line each

stdout: tables, verdicts and, as the last line, the run's folder. stderr: progress.
exit:   0 finished   1 stopped by the machine, as by a full disk: run it again   2 bad input,
        nothing started (in a sweep, earlier runs may have)   3 finished with results still pending
        130 interrupted, can be continued
"""


def main(arguments: Sequence[str]) -> int:
    """Print the choices of the groups, all by default. Raises ConfigError for what is no group."""
    parser = Arguments("list", "What may be chosen, one line each.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="task, method, model, ...")
    known = [group for group in groups() if group not in ("prompt", "budget")]
    for name in parser.parse_args(arguments).groups or known:
        group = name if name in known else name.removesuffix("s")
        if group not in known:
            near = nearest(group, known) or known
            raise ConfigError(f"there is no group {name!r}: did you mean {' or '.join(near)}?")
        files = options(group)
        wide = max(map(len, files))
        for option, file in files.items():
            told = textwrap.shorten(about(file.read_text("utf-8")), _WIDTH, placeholder=" …")
            print(f"{group}={option:<{wide}}  {told}")
    return 0


def about(text: str) -> str:
    """The first sentence of the comment that a file begins with."""
    block = re.sub(r"\A# @package.*\n", "", text).partition("\n_")[0]
    lines = [line[1:].strip() for line in block.splitlines() if line[:1] == "#"]
    return " ".join(lines).partition(". ")[0].removesuffix(".")
