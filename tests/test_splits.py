"""Splits by people: the draw of who is held out."""

from data_builders import splits


def test_the_draw_follows_the_fakes():
    pairs = [(f"a{i}", f"b{i}") for i in range(20)]
    people = {person for pair in pairs for person in pair}
    held = splits.held_out(people, pairs)
    assert len(held) == 4
    assert sum(set(pair) <= held for pair in pairs) == 2
    assert not any(len(set(pair) & held) == 1 for pair in pairs)
    assert splits.held_out(people, reversed(pairs)) == held
    alone = {f"c{i}" for i in range(30)}
    more = splits.held_out(people | alone, [*pairs, *((name,) for name in alone)])
    assert more & people == held
    assert len(more & alone) == 3
    for count, chosen in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (19, 2), (21, 3)):
        assert len(splits.held_out([str(i) for i in range(count)], [])) == chosen
