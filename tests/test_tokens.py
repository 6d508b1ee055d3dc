import transformer
from transformer import tokens


def test_special_tokens_have_the_ids_the_book_prints():
    assert (tokens.PAD, tokens.START, tokens.END, tokens.FIRST_TASK_TOKEN) == (
        0,
        1,
        2,
        3,
    )


def test_the_package_offers_the_special_tokens():
    assert transformer.PAD is tokens.PAD
    assert transformer.START is tokens.START
    assert transformer.END is tokens.END
    assert transformer.FIRST_TASK_TOKEN is tokens.FIRST_TASK_TOKEN


def test_everything_the_package_promises_is_there():
    assert len(set(transformer.__all__)) == len(transformer.__all__)
    assert all(hasattr(transformer, name) for name in transformer.__all__)
