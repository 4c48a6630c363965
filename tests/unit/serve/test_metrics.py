"""What is counted can be read by Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from yoloship.serve.engine import Times
from yoloship.serve.metrics import Metrics


def test_an_image_is_counted_in_every_stage_and_servers_do_not_share_their_metrics() -> None:
    metrics, other = Metrics(), Metrics()
    metrics.image_done("m", Times(0.001, 0.002, 0.03, 0.033, 4))
    metrics.requests.labels("/v1", "m", "200").inc()
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    values = {(one.name, one.labels.get("le")): one.value for family in families.values() for one in family.samples}
    assert values["yoloship_batch_images_sum", None] == 4
    assert values["yoloship_network_seconds_sum", None] == 0.03
    assert values["yoloship_requests_total", None] == 1
    assert b"yoloship_requests_total{" not in other.text()
