import inspect

import gandetect.datasets


def test_every_public_name_is_there_and_documented():
    for name in gandetect.datasets.__all__:
        assert inspect.getdoc(getattr(gandetect.datasets, name))
