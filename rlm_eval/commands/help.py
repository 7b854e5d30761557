"""``--help``: one page, printed before anything heavy is imported."""

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
  budget.matched=true    every method spends up to the sample's cap in its own way
  experiment=NAME        a set of settings from conf/experiment/
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
  replay RUN...            tables from the journal, no model: same as recorded?
                           --rescore: the recorded answers by the present scorer
  merge RUN... --out DIR   shards or arms joined in one record
  export OUT.jsonl task=NAME ...  a task's samples as a file
  list [GROUP...]          what may be chosen, a line each

stdout: tables, verdicts and, as the last line, the run's folder. stderr: progress.
exit:   0 finished   1 stopped by the machine, as by a full disk: run it again   2 bad input,
        nothing started (in a sweep, earlier runs may have)   3 finished with results still pending
        130 interrupted, can be continued
"""
