"""A model is named in one string; what is wrong with it is said."""

import pytest

from benchmark.errors import InputError
from benchmark.models import make_model


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "expected a name that begins with one of file:, openai:"),
        ("gpt", "expected a name that begins with"),
        ("opnai:http://h/v1#m", "Did you mean 'openai'?"),
        ("openai", "nothing is named after openai:"),
        ("file:", "nothing is named after file:"),
        ("openai:http://h/v1", "expected http://h/v1#MODEL"),
        ("openai:h#m", "expected http://HOST/v1"),
        ("baseline:majorty", "Did you mean 'majority'?"),
        ("baseline:chance:0.5", "expected one of chance, majority"),
        ("baseline:text_only:http://h/v1", "expected http://h/v1#MODEL"),
        ("scripted:shy", "expected scripted:chatty"),
        ("classifier:os", "expected package.module:function"),
        ("classifier:no.such.module:f", "No module named 'no'"),
        ("classifier:os.path:no_such", "os.path has no function 'no_such'"),
        ("classifier:os:sep", "os has no function 'sep'"),
    ],
)
def test_a_name_at_fault_is_refused(spec, message):
    with pytest.raises(InputError) as caught:
        make_model(spec)
    assert message in str(caught.value)
