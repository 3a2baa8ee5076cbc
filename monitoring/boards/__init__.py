"""The dashboards: what is going on, where the time goes, how the models do."""

from monitoring.boards.models import MODELS
from monitoring.boards.overview import OVERVIEW
from monitoring.boards.time_goes import WHERE_TIME_GOES

BOARDS = (OVERVIEW, WHERE_TIME_GOES, MODELS)
