from harness.api import Comparison as Comparison
from harness.api import Evaluation as Evaluation
from harness.api import ScoreFile as ScoreFile
from harness.api import Track as Track
from harness.api import Tuning as Tuning
from harness.api import compare as compare
from harness.api import evaluate as evaluate
from harness.api import open_track as open_track
from harness.api import plot as plot
from harness.api import score as score
from harness.api import tune as tune

__version__: str
