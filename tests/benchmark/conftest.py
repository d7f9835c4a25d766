"""What the tests of the data package share."""

import sys

import pytest

FAKE_FFMPEG = """#!{python}
import sys
sys.stderr.write("  Duration: {duration}, start: 0\\n  {stream}\\n")
sys.stderr.flush()
block = b"".join(i.to_bytes(2, "little") * 2 for i in range(8000))
for _ in range({blocks}):
    sys.stdout.buffer.write(block)
"""
AAC_STREAM = "Stream #0:0: Audio: aac, 8000 hz, stereo, fltp"


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    """Puts an 'ffmpeg' on the path that decodes anything to 0, 1, 2 ... 7999 a second.

    8 kHz, stereo, int16.
    """

    def install(duration="00:00:02.00", blocks=2, stream=AAC_STREAM):
        folder = tmp_path / "bin"
        folder.mkdir()
        values = {"duration": duration, "blocks": blocks, "stream": stream}
        script = FAKE_FFMPEG.format(python=sys.executable, **values)
        (folder / "ffmpeg").write_text(script)
        (folder / "ffmpeg").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return install
