"""`unblur bulk`: archives of photos, on one machine or a cluster, in folders or buckets."""

from unblur.bulk.errors import BulkError
from unblur.bulk.run import ENGINES, Plan, Totals, plan_bulk, run_bulk
from unblur.bulk.work import Settings

__all__ = ["ENGINES", "BulkError", "Plan", "Settings", "Totals", "plan_bulk", "run_bulk"]
