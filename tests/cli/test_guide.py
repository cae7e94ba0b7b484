"""The commands of notebooks/guides/open_a_trace.md, as they stand there, on small files."""

import shlex
from pathlib import Path

from pipelab.cli.main import main
from pipelab.schedules import one_f_one_b
from tests.trace.foreign import kineto, ndtimeline, otlp, write
from tests.traces import recorded_like

GUIDE = Path(__file__).parents[2] / "notebooks" / "guides" / "open_a_trace.md"


def test_the_commands_of_the_guide_work_as_they_stand(tmp_path, monkeypatch, capsys):
    block = GUIDE.read_text("utf-8").partition("```sh\n")[2].partition("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 5 and all(words[:2] == ["pipelab", "open"] for words in commands)
    steps = [recorded_like(one_f_one_b(3, 4), seed=seed) for seed in (1, 2)]
    write(tmp_path / "timeline.json.gz", ndtimeline({(i, 0): t for i, t in enumerate(steps)}))
    kineto(tmp_path / "profiling" / "traces" / "iteration_10", steps)
    write(tmp_path / "spans.json", otlp(steps))
    steps[0].save(tmp_path / "step.json")
    monkeypatch.chdir(tmp_path)
    for _, *arguments in commands:
        assert main(arguments) == 0, arguments
        assert "1F1B" in capsys.readouterr().out
    assert (tmp_path / "step.html").is_file()
