"""Runs a Python package's engine, or a coding agent, on one question, in the engine's process:

    python host.py ENGINE

Standard library and the engine only; retries, memory and time are the harness's. Its output is
one JSON object: ``text``, ``forced`` and ``blocks`` (the code of the engine's own loop and what it
printed), or ``refused`` when the engine did not take its settings.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what engine and model code print is no answer
    run = {
        **{"rlms": run_rlms, "dspy_rlm": run_dspy, "mini_swe_agent": run_mini_swe_agent},
        **{"opencode": run_opencode, "claude_code": run_claude_code},
    }[sys.argv[1]]
    settings = json.loads(given("SETTINGS_FILE"))
    os.remove(os.environ.pop("SETTINGS_FILE"))  # they may hold a key
    json.dump(run(settings), out)
    out.flush()
    os._exit(0)  # nothing is left to tidy up, and Python would take its time


def given(name: str) -> str:
    return Path(os.environ[name]).read_bytes().decode("utf-8", "surrogatepass")


def run_rlms(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    from rlm.core import comms_utils
    from rlm.core import rlm as core
    from rlm.logger import RLMLogger
    from rlm.utils import exceptions, token_utils

    class DepthNamed(core.RLM):  # type: ignore[misc]
        """Its child RLMs go by a model name with their depth, so that the proxy can tell their
        turns from its own."""

        def _subcall(self, prompt: str, model: str | None = None) -> Any:
            named = model or f"{os.environ['OPENAI_MODEL']}@{self.depth + 1}"
            return super()._subcall(prompt, named)

    core.RLM = DepthNamed  # what a child RLM is made from
    # Its table of windows, for its compaction, doesn't know the proxy's models.
    token_utils.MODEL_CONTEXT_LIMITS |= _windows()
    # Its REPL waits 300 s for a whole batch, whatever its client's limit: ours is the sample's.
    comms_utils.send_lm_request.__defaults__ = (settings["seconds"], None)
    comms_utils.send_lm_request_batched.__defaults__ = (None, settings["seconds"], 0)
    client: dict[str, Any] = {
        "base_url": os.environ["OPENAI_BASE_URL"],
        "api_key": os.environ["OPENAI_API_KEY"],
    }
    client |= {"max_retries": 0, "timeout": settings["seconds"]}
    # Each batch has an event loop of its own, in which no other's connection works.
    client["default_headers"] = {"Connection": "close"}
    ours: dict[str, Any] = {}
    if settings["instructions"]:  # which rlms formats
        text = settings["instructions"].replace("{", "{{").replace("}", "}}")
        ours = {"custom_system_prompt": text, "orchestrator": False}
    try:
        engine = DepthNamed(
            backend="openai",
            backend_kwargs={"model_name": os.environ["OPENAI_MODEL"], **client},
            other_backends=["openai"],
            other_backend_kwargs=[{"model_name": os.environ["OPENAI_SUB_MODEL"], **client}],
            logger=RLMLogger(),
            max_depth=settings["max_depth"],
            max_iterations=settings["max_iterations"],
            **{**ours, **settings["kwargs"]},
        )
    except (TypeError, ValueError) as error:
        return {"refused": str(error)}
    context = json.loads(given("DOCUMENTS_FILE"))
    try:
        done = engine.completion(context, root_prompt=given("QUESTION_FILE"))
    except (
        exceptions.TimeoutExceededError,
        exceptions.TokenLimitExceededError,
        exceptions.ErrorThresholdExceededError,
    ) as stopped:  # by a limit of its own, among kwargs
        if not stopped.partial_answer:
            raise
        text, iterations = stopped.partial_answer, engine.logger.get_trajectory()["iterations"]
        forced = True
    else:
        text, iterations = done.response, done.metadata["iterations"]
        # Beyond its limit it asks once more, for an answer from what it has.
        forced = len(iterations) > settings["max_iterations"]
    blocks = [
        _block(block["code"], block["result"]["stdout"], block["result"]["stderr"])
        for iteration in iterations
        for block in iteration["code_blocks"]
    ]
    return {"text": text, "forced": forced, "blocks": blocks}


def run_dspy(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    # Found in the environment, the address has dspy import litellm, for seconds.
    client: dict[str, Any] = {
        "api_base": os.environ.pop("OPENAI_BASE_URL"),
        "timeout": settings["seconds"],
    }
    client |= {"api_key": os.environ["OPENAI_API_KEY"], "cache": False, "num_retries": 0}
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # dspy would fetch prices
    import dspy
    from dspy.primitives.local_interpreter import LocalInterpreter

    root, sub = (f"openai/{os.environ[name]}" for name in ("OPENAI_MODEL", "OPENAI_SUB_MODEL"))
    try:
        engine = dspy.RLM(
            dspy.Signature("context, query -> answer", settings["instructions"] or None),
            sub_lm=dspy.LM(sub, **client),
            interpreter_factory=LocalInterpreter,
            max_iters=settings["max_iterations"],
            max_llm_calls=settings["max_llm_calls"],
            **settings["kwargs"],
        )
    except (TypeError, ValueError) as error:
        return {"refused": str(error)}
    with dspy.context(lm=dspy.LM(root, **client)):
        context = json.loads(given("DOCUMENTS_FILE"))
        done = engine(context=context, query=given("QUESTION_FILE"))
    blocks = []
    for entry in done.trajectory:
        output = str(entry["output"])
        failed = output.startswith(("[Error]", "[Type Error]"))
        blocks.append(_block(entry["code"], *(("", output) if failed else (output, ""))))
    # What dspy.RLM says of an answer it had to draw from an unfinished run.
    forced = done.final_reasoning == "Extract forced final output"
    return {"text": str(done.answer), "forced": forced, "blocks": blocks}


def run_mini_swe_agent(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    quiet = {"MSWEA_SILENT_STARTUP": "1", "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "1"}
    os.environ |= {**quiet, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    import openai
    import yaml
    from minisweagent import package_dir
    from minisweagent.agents.default import DefaultAgent
    from minisweagent.environments.local import LocalEnvironment
    from minisweagent.models.litellm_model import LitellmModel
    from minisweagent.models.litellm_textbased_model import LitellmTextbasedModel

    own = yaml.safe_load((package_dir / "config" / f"{settings['config']}.yaml").read_text())
    client: dict[str, Any] = {"api_base": os.environ.pop("OPENAI_BASE_URL")}
    client |= {"api_key": os.environ.pop("OPENAI_API_KEY"), "timeout": settings["seconds"]}
    client |= {"max_retries": 0, "max_tokens": settings["turn_tokens"]}
    model = {key: value for key, value in own["model"].items() if key != "model_kwargs"}
    model |= {"model_name": f"openai/{os.environ['OPENAI_MODEL']}", "model_kwargs": client}
    kind = LitellmModel if settings["config"] == "mini" else LitellmTextbasedModel
    prompts = {key: own["agent"][key] for key in ("system_template", "instance_template")}
    limits = {"step_limit": settings["max_turns"], "cost_limit": 0.0}
    task, work = task_in_folder(settings)
    os.chdir(work)
    try:
        agent = DefaultAgent(
            kind(**model, cost_tracking="ignore_errors"),
            LocalEnvironment(**own["environment"]),
            **{**prompts, **limits, **settings["kwargs"]},
        )
    except (TypeError, ValueError) as error:
        return {"refused": str(error)}
    written = work / "answer.txt"
    try:
        ended = agent.run(task)
    except openai.APIError:  # refused: what it had written by then is its answer
        if not written.is_file():
            raise
        ended = {"exit_status": "refused"}
    text = written.read_text(errors="replace") if written.is_file() else ended["submission"]
    return {"text": text.strip(), "forced": ended["exit_status"] != "Submitted", "blocks": []}


def run_opencode(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    address, windows = os.environ["OPENAI_BASE_URL"], _windows()
    root, sub = os.environ["OPENAI_MODEL"], os.environ["OPENAI_SUB_MODEL"]
    models = {
        name: {"limit": {"context": windows[of], "output": settings["turn_tokens"]}}
        for name, of in ((root, root), (f"{root}@1", root), (sub, sub))
    }
    options = {"baseURL": address, "apiKey": os.environ["OPENAI_API_KEY"], "timeout": False}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": models}
    inner = {"model": f"proxy/{root}@1"}
    config = {
        "model": f"proxy/{root}",
        "small_model": f"proxy/{sub}",
        "provider": {"proxy": provider},
        "enabled_providers": ["proxy"],
        "agent": {"build": {"steps": settings["max_turns"]}, "general": inner, "explore": inner},
        "permission": "allow",
        "autoupdate": False,
        "share": "disabled",
    }
    off = ("AUTOUPDATE", "LSP_DOWNLOAD", "MODELS_FETCH", "DEFAULT_PLUGINS", "CLAUDE_CODE")
    own = {f"OPENCODE_DISABLE_{name}": "1" for name in off}
    # Its sessions in memory: in a file, an agent would find its own prompt, and the input in it.
    own |= {"OPENCODE_EXPERIMENTAL_DISABLE_FILEWATCHER": "1", "OPENCODE_DB": ":memory:"}
    own |= {"OPENCODE_CONFIG_CONTENT": json.dumps(config)}
    # A title of its own would be asked of the small model, with the whole prompt.
    output = _agent(settings, ["run", "--format", "json", "--title", "task"], own)
    events = [json.loads(line) for line in output.split("\n") if line.startswith("{")]
    told = [event for event in events if event["type"] in ("text", "error")]
    if told and told[-1]["type"] == "error":
        sys.exit(json.dumps(told[-1]["error"]))
    steps = sum(event["type"] == "step_start" for event in events)
    text = told[-1]["part"]["text"] if told else ""
    return {"text": text, "forced": steps >= settings["max_turns"], "blocks": []}


def run_claude_code(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    root, sub = os.environ["OPENAI_MODEL"], os.environ["OPENAI_SUB_MODEL"]
    own = {f"ANTHROPIC_DEFAULT_{name}_MODEL": root for name in ("OPUS", "SONNET")}
    own |= {"ANTHROPIC_MODEL": root, "ANTHROPIC_DEFAULT_HAIKU_MODEL": sub}
    own |= {"CLAUDE_CODE_SUBAGENT_MODEL": f"{root}@1"}
    own |= {"ANTHROPIC_BASE_URL": os.environ["OPENAI_BASE_URL"].removesuffix("/v1")}
    own |= {"ANTHROPIC_AUTH_TOKEN": os.environ["OPENAI_API_KEY"], "IS_SANDBOX": "1"}
    own |= {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(settings["turn_tokens"])}
    own |= {"CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(_windows()[root])}  # 100,000 at least
    own |= {"API_TIMEOUT_MS": str(int(settings["seconds"] * 1000)), "CLAUDE_CODE_MAX_RETRIES": "0"}
    off = ("DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "DISABLE_AUTOUPDATER")
    own |= dict.fromkeys((*off, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"), "1")
    # A line that differs from run to run at the head of its prompt, which no cache would hold.
    own |= {"CLAUDE_CODE_ATTRIBUTION_HEADER": "0"}
    # In a file of its session, an agent would find its own prompt, and the input in it.
    command = ["-p", "--output-format", "json", "--no-session-persistence"]
    command += ["--dangerously-skip-permissions"]
    output = _agent(settings, [*command, "--max-turns", str(settings["max_turns"])], own)
    done = json.loads(output.strip().split("\n")[-1])
    forced = done.get("subtype") == "error_max_turns"
    if done.get("is_error") and not forced:
        sys.exit(str(done.get("result") or done))
    return {"text": done.get("result") or "", "forced": forced, "blocks": []}


def _agent(settings: Mapping[str, Any], arguments: list[str], own: Mapping[str, str]) -> str:
    """What an agent's program prints that is given its task on standard input."""
    command = [settings["program"], *arguments, *settings["arguments"]]
    task, work = task_in_folder(settings)
    environment = {**os.environ, **settings["environment"], **own, "PWD": str(work)}
    done = subprocess.run(
        command, input=task.encode(), stdout=subprocess.PIPE, env=environment, cwd=work
    )
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode and not output.strip():
        sys.exit(done.returncode)
    return output


def _windows() -> dict[str, int]:
    """The windows of the proxy's models by their names."""
    key = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    asked = urllib.request.Request(f"{os.environ['OPENAI_BASE_URL']}/models", headers=key)
    with urllib.request.urlopen(asked) as response:
        return {m["id"]: m["max_model_len"] for m in json.load(response)["data"]}


def task_in_folder(settings: Mapping[str, Any]) -> tuple[str, Path]:
    """What an agent is asked, and the folder that it works in, with the input where that is
    offloaded, and nothing else that it could read it from."""
    work = Path.home() / "work"
    work.mkdir()
    for path in settings["beside"]:
        shutil.copy(path, work)
    task = given("TASK_FILE").encode("utf-8", "replace").decode()
    if "DOCUMENTS_FILE" in os.environ:
        content = json.loads(given("DOCUMENTS_FILE"))
        files = {work / "context.txt": content} if isinstance(content, str) else {}
        if not files:
            (work / "context").mkdir()
            named = content.items() if isinstance(content, dict) else enumerate(content, 1)
            for name, text in named:
                safe = re.sub(r"[^\w.-]+", "_", str(name)).encode()[:200].decode(errors="ignore")
                tried = itertools.chain([""], map("_{}".format, itertools.count(2)))
                stem = safe.strip(".") or "document"
                paths = (work / "context" / f"{stem}{end}.txt" for end in tried)
                files[next(path for path in paths if path not in files)] = text
        for path, text in files.items():
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for name in {"TASK_FILE", "DOCUMENTS_FILE"} & os.environ.keys():
        os.remove(os.environ.pop(name))
    return task, work


def _block(code: str, output: Any, error: Any) -> dict[str, str]:
    """Cut to what one can read."""
    return {"code": code, "output": str(output or "")[:20_000], "error": str(error or "")[:20_000]}


if __name__ == "__main__":
    main()
