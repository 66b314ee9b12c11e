"""What the counting of visits adds to a page: two servers that differ in it alone, in turns.

Compared is the processor's time for a page, with that of the thread that hands the counts over; whatever else the
machine does changes it less than how long a page takes.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from external_apis.backoffice import visit_rollup
from external_apis.backoffice.models import VisitSum
from tests import web
from tests.bench import load
from tests.content import make_blog

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS, SECONDS = 12, 1.0
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Referer": "https://news.example/today",
}


def test_counting_beside_a_page_that_is_not_counted(tmp_path: Path) -> None:
    make_blog(slug="post", status="published", body="Hello *there*. " * 200)
    used: dict[str, list[float]] = {"off": [], "on": []}
    took: dict[str, list[float]] = {"off": [], "on": []}
    asked = 0
    with (
        web.serve(tmp_path, threads=16, VISIT_COUNTING="false") as off,
        web.serve(tmp_path, threads=16, VISIT_COUNTING="true") as on,
    ):
        for number in range(-1, ROUNDS):  # the first round warms up
            for name, server in {"off": off, "on": on}.items():
                before = server.processor_seconds
                answers = load.run(server.port, "/blog/post", [""], SECONDS, threads=1, headers=BROWSER)
                pages = len(answers.took_ms)
                asked += pages if name == "on" else 0
                if number >= 0:
                    used[name].append((server.processor_seconds - before) * 1000 / pages)
                    took[name].append(statistics.median(answers.took_ms))
        time.sleep(1.5)  # what was counted last is handed over within a second
    middle = {name: statistics.median(values) for name, values in used.items()}
    passed = {name: min(values) for name, values in took.items()}
    ratio = middle["on"] / middle["off"]
    print(
        f"\na page of the blog: {middle['off']:.3f} ms of the processor, counted {middle['on']:.3f} ms: {ratio:.3f} "
        f"times; at best it took {passed['off']:.3f} and {passed['on']:.3f} ms"
    )
    visit_rollup.roll_up()
    assert VisitSum.objects.get(kind="total", grain="month").visits == asked
    assert ratio <= 1.05
