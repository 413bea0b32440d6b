"""Starts localemu with two faults of the Kinesis inside it (moto's) mended.

Its last shard ends at hash key 2^128, one past the last there is, and two requests at once may give
their records the same sequence number, so that one of them is lost. Kinesis does neither.
"""

import sys
import threading

from localemu.cli.main import main
from moto.kinesis import models

new_shard, put_record, one_at_a_time = models.Shard.__init__, models.Shard.put_record, threading.Lock()


def new_shard_mended(self, shard_id, starting_hash, ending_hash, *rest, **named):
    new_shard(self, shard_id, starting_hash, min(ending_hash, 2**128 - 1), *rest, **named)


def put_record_mended(self, *record, **named):
    with one_at_a_time:
        return put_record(self, *record, **named)


models.Shard.__init__ = new_shard_mended
models.Shard.put_record = put_record_mended

if __name__ == "__main__":
    sys.exit(main())
