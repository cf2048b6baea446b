import subprocess
import sys

ASK_AT_ONCE = """
import threading
from hwmodels.cost_model import COST_MODELS

start, answers = threading.Barrier(8), []

def ask():
    start.wait()
    answers.append(COST_MODELS.names())

threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(set(answers)) == 1 and "roofline" in answers[0], answers
"""


def test_all_who_ask_first_at_the_same_time_get_every_family() -> None:
    asked = subprocess.run([sys.executable, "-c", ASK_AT_ONCE], capture_output=True, text=True, check=False)

    assert asked.returncode == 0, asked.stderr
