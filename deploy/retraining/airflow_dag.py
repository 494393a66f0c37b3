"""An Airflow DAG (2.4 or later): retrain every night, then look for drift. Copy it into the folder of DAGs.

The commands run on the worker, where recsys is installed and RECSYS_HOME holds mlruns. A task that was killed is tried
again, and goes on where it was; on data that was trained already it does nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

SETTINGS = {
    "RECSYS_HOME": "/var/lib/recsys",
    "RECSYS_TABLES": "/var/lib/recsys/tables",
    "RECSYS_NAME": "news",
}

RETRAIN = (
    'cd "$RECSYS_HOME" && /opt/recsys/bin/recsys retrain "$RECSYS_TABLES" --name "$RECSYS_NAME" --keep 3 '
    "--json retrain.json"
)
MONITOR = (
    'cd "$RECSYS_HOME" && /opt/recsys/bin/recsys monitor "$RECSYS_TABLES" '
    '--model "models:/$RECSYS_NAME-ranker@champion" --html drift.html --json drift.json'
)

with DAG(
    dag_id="recsys_retrain",
    schedule="15 1 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
) as dag:
    retrain = BashOperator(
        task_id="retrain",
        bash_command=RETRAIN,
        env=SETTINGS,
        append_env=True,
        retries=2,
        retry_delay=timedelta(minutes=10),
    )
    # exit code 1: something drifted, which another try does not mend
    monitor = BashOperator(task_id="monitor", bash_command=MONITOR, env=SETTINGS, append_env=True, retries=0)
    retrain >> monitor
