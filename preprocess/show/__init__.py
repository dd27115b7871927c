"""Pictures of a store: a field, its importance map and the points that a sampler draws; of proofs; of schedules."""

from preprocess.show.picture import FORMATS, Picture, check_output, write_picture
from preprocess.show.proofs import picture_proof
from preprocess.show.schedules import SCHEDULES, ScheduleRequest, picture_schedule
from preprocess.show.stores import picture_store
from preprocess.show.subject import ShowRequest, Subject, read_subject

__all__ = [
    "FORMATS",
    "SCHEDULES",
    "Picture",
    "ScheduleRequest",
    "ShowRequest",
    "Subject",
    "check_output",
    "picture_proof",
    "picture_schedule",
    "picture_store",
    "read_subject",
    "write_picture",
]
