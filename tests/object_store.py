"""An S3 server in this process, as object store of a test."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@contextmanager
def bucket() -> Iterator[str]:
    """The URL of an empty bucket; this process and its children reach it as they would another."""
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
            environment.setenv("NO_PROXY", host)
            for name, value in KEYS.items():
                environment.setenv(name, value)
            s3fs.S3FileSystem.clear_instance_cache()  # of other keys
            boto3.client("s3").create_bucket(Bucket="bucket")
            yield "s3://bucket"
    finally:
        server.stop()
