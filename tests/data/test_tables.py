"""Tables are read as they were meant, or refused with the place; no row vanishes or appears."""

import gzip
import io
import sys

import numpy as np
import pytest

from gandetect.data import tables
from gandetect.data.tables import MISSING_VALUES, is_table, read_table

nan = np.nan


@pytest.fixture
def read(tmp_path):
    def read(content, name="x.csv", **options):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, **options)

    return read


def assert_columns(table, *columns):
    assert len(table.columns) == len(table.names) == len(columns)
    for found, expected in zip(table.columns, columns, strict=True):
        assert len(found) == len(table)
        if found.dtype == object:
            assert found.tolist() == list(expected)
        else:
            np.testing.assert_array_equal(found, np.asarray(expected, dtype=found.dtype))


class TestHowTheTextIsWritten:
    @pytest.mark.parametrize(
        "content",
        [
            "a,b\n1.5,2\n3,\n",
            "a;b\n1.5;2\n3;\n",
            "a;b\n1,5;2\n3;\n",
            "a\tb\n1.5\t2\n3\t\n",
            "a|b\n1.5|2\n3|NA\n",
            "a  b\n1.5   2\n  3 NA\n",
            'a,b\n"1,5",2\n3,\n',
            "sep=;\na;b\n1.5;2\n3;\n",
            "a,b\r\n1.5,2\r\n3,\r\n",
            "a,b\r1.5,2\r3,\r",
            "a,b,\n1.5,2,\n3,,\n",
            "a,b\n1.5,2,\n3,,\n",
            ' a , "b"\n 1.5 , 2\n3, \n',
            "a,b\n1.5,2\n3,null",
            "a,b\n1.5,2\n3,<NA>\n",
        ],
    )
    def test_marks_are_found_out(self, content, read):
        table = read(content)
        assert table.names == ["a", "b"]
        assert_columns(table, [1.5, 3], [2, nan])

    @pytest.mark.parametrize(
        ("content", "first"),
        [("1,5;2,7\n3,5;4\n", [1.5, 3.5]), ("1,5 2,7\n3,1 4\n", [1.5, 3.1])],
    )
    def test_decimal_commas_without_names(self, content, first, read):
        table = read(content)
        assert not table.has_names
        assert table.names == ["0", "1"]
        assert_columns(table, first, [2.7, 4])

    def test_blanks_in_words_part_nothing(self, read):
        table = read("first name,b\nx y,2\nz w,3\n")
        assert table.names == ["first name", "b"]
        assert_columns(table, ["x y", "z w"], [2, 3])

    def test_a_comma_and_three_digits_beside_other_decimal_commas(self, read):
        assert_columns(read("a;b\n1,234;1,5\n"), [1.234], [1.5])

    @pytest.mark.parametrize(
        ("content", "options", "value"),
        [
            ("a;b\n1,234;x\n", {"decimal": ","}, 1.234),
            ("a;b\n1,234;x\n", {"thousands": ","}, 1234),
            ("a;b\n-1.234.567,5;x\n", {"thousands": "."}, -1234567.5),
            ("a;b\n1 234,5;x\n", {"thousands": " ", "decimal": ","}, 1234.5),
            ("a:b\n1.5:x\n", {"delimiter": ":"}, 1.5),
            ('a,b\n"1,5",x\n', {"decimal": ","}, 1.5),
        ],
    )
    def test_marks_that_are_told(self, content, options, value, read):
        assert_columns(read(content, **options), [value], ["x"])

    @pytest.mark.parametrize("content", ["1,5\n2,7\n", "a\n1,5\n2,7\n"])
    def test_a_decimal_comma_in_one_column(self, content, read):
        assert_columns(read(content, decimal=","), [1.5, 2.7])

    @pytest.mark.parametrize(
        ("content", "shown"),
        [
            ("a;b\n1;2\n1,234;2\n", "'1,234' in line 3"),
            ("a;b\n1 234;2\n", "'1 234' in line 2"),
            ("a;b\n1'234;2\n", '"1\'234" in line 2'),
        ],
    )
    def test_thousands_are_refused(self, content, shown, read):
        with pytest.raises(ValueError, match="thousands separator") as caught:
            read(content)
        assert shown in str(caught.value)

    @pytest.mark.parametrize(
        ("content", "first", "second"),
        [
            ("a;b\n1.234,5;2\n-2,5;1.000\n", [1234.5, -2.5], [2, 1000]),
            ('a,b\n"1,234.5",2.5\n', [1234.5], [2.5]),
            ("a;b\n1.234.567;2,5\n", [1234567], [2.5]),
            ("a;b\n1'234.5;2\n", [1234.5], [2]),
            ("a;b\n1 234,5;2\n", [1234.5], [2]),
            ("a;b\n€ 1.234,50;2\n", [1234.5], [2]),
        ],
    )
    def test_thousands_that_show_their_marks_are_read(self, content, first, second, read):
        assert_columns(read(content), first, second)

    @pytest.mark.parametrize("content", ["a;b\n1.234,5;2.5\n", "a;b\n2.5;1.234,5\n"])
    def test_thousands_that_contradict_another_number_are_refused(self, content, read):
        with pytest.raises(ValueError, match=r"set the decimal mark.*thousands") as caught:
            read(content)
        assert "'1.234,5' in line 2" in str(caught.value)
        assert "'2.5' in line 2" in str(caught.value)
        with pytest.raises(ValueError, match=r"numbers '1,234\.5' in line 2 and '1\.234,5'"):
            read("a;b\n1.234,5;1,234.5\n")

    @pytest.mark.parametrize(
        ("decimal", "content", "first"),
        [(",", "a;b\n1.234;2\n", [1234]), (".", "a;b\n1,234;2\n", [1234])],
    )
    def test_the_other_mark_than_the_decimal_one_is_that_of_thousands(
        self, decimal, content, first, read
    ):
        assert_columns(read(content, decimal=decimal), first, [2])
        with pytest.raises(ValueError, match="set the decimal mark"):
            read(content.replace("234", "23"), decimal=decimal)

    def test_two_decimal_marks_are_refused(self, read):
        with pytest.raises(ValueError, match=r"'2\.5' in line 2 and '1,5' in line 2.*--decimal"):
            read("a;b\n1,5;2.5\n")

    def test_a_column_of_words_decides_nothing(self, read):
        assert_columns(read("a;b\n1,5 m;2.5\n1,234;3\n", words=["a"]), ["1,5 m", "1,234"], [2.5, 3])

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
    def test_byte_order_marks(self, encoding, read):
        table = read("größe,b\n1,ü\n".encode(encoding))
        assert table.names == ["größe", "b"]
        assert_columns(table, [1], ["ü"])

    def test_another_encoding_is_told_with_its_line(self, read):
        content = "a,b\n1,x\n2,ü\n".encode("latin-1")
        with pytest.raises(ValueError, match=r"line 3 of .*x\.csv is not text in UTF-8.*latin-1"):
            read(content)
        assert_columns(read(content, encoding="latin-1"), [1, 2], ["x", "ü"])

    def test_packed(self, read):
        content = gzip.compress(b"a,b\n" + b"1,2\n" * 50)
        assert len(read(content, "x.csv.gz")) == 50
        with pytest.raises(ValueError, match="damaged gzip"):
            read(content[:-9], "x.csv.gz")

    def test_standard_input_may_be_read_again(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nx\ny\n")))
        for _ in range(2):
            assert_columns(read_table("-"), ["x", "y"])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "is empty"),
            ("\n\n", "is empty"),
            ("\n<!DOCTYPE html>\n<html>\n1,2\n</html>\n", r"x\.csv .*seems to be HTML or XML"),
            ("<html><body>a,b\n", "begins with '<html><body>a,b'"),
            ("<?xml version='1.0'?>\n<a>1,2</a>\n", "seems to be HTML or XML"),
            (b"PK\x03\x04\0\0", "a workbook"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "a workbook"),
            (b"PAR1\0", "a Parquet file"),
            (b"a\0,\0b\0", "UTF-16 without a byte order mark"),
            ('a,b\n1,2\n"x,2\nz,3\n', "begins in line 3"),
            ('a,b\n"x"y,2\n', "begins in line 2"),
        ],
    )
    def test_what_is_no_table(self, content, message, read):
        with pytest.raises(ValueError, match=message):
            read(content)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"delimiter": "::"}, "delimiter must be one character"),
            ({"decimal": ";"}, "decimal must be"),
            ({"thousands": "1"}, "thousands must be one character"),
            ({"thousands": ",", "decimal": ","}, "cannot both be ','"),
            ({"header": "yes"}, "header must be"),
            ({"encoding": "latin-99"}, "no encoding 'latin-99'"),
            ({"words": ["z"]}, "has no column 'z', only a, b"),
        ],
    )
    def test_options_that_can_not_be_used(self, options, message, read):
        with pytest.raises(ValueError, match=message):
            read("a,b\n1,2\n", **options)

    def test_endings(self):
        assert is_table("x.CSV.gz")
        assert is_table("x.tsv")
        assert not is_table("x.parquet")


class TestRows:
    def test_lines_are_those_of_the_file(self, read):
        table = read('a,b\n\n1,"x\n\ny"\n   \n2,z\n\n')
        assert_columns(table, [1, 2], ["x\n\ny", "z"])
        assert table.lines.tolist() == [3, 7]

    def test_blank_lines_in_one_column_are_told(self, read):
        with pytest.warns(UserWarning, match="1 blank line between the rows"):
            table = read("a\n1\n\n2\n\n")
        assert_columns(table, [1, 2])

    def test_rows_of_nothing_but_gaps_are_told(self, read):
        with pytest.warns(UserWarning, match="2 rows in which all values are missing.* line 3"):
            table = read("a,b\n1,2\n,\n3,\nNA,\n")
        assert_columns(table, [1, nan, 3, nan], [2, nan, nan, nan])

    def test_a_gap_in_one_column(self, read):
        assert_columns(read('a\n1\n""\n2\n'), [1, nan, 2])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("a,b\n1,2\n\n1,2,3\n", "line 4 of .* has 3 cells, but line 1 has 2 names"),
            ("a,b\n1,2\n3\n", "line 3 of .* has 1 cell, but line 1 has 2 names"),
            ("1,2\n3,4,5\n", "line 2 of .* has 3 cells, but line 1 has 2 cells"),
            ("a,b\n1,2,\n3,4\n", "line 2 of .* has 3 cells"),
            ("a,b\n.1,5,2\n.2,6,4\n", "line 2 of .* has 3 cells"),
            ("a,b\nr1,5,2\n", "line 2 of .* has 3 cells"),
            ("when b\n2024-01-01 10:00 5\n2024-01-02 10:00 6\n", "line 2 of .* has 3 cells"),
            ("a\n1,5\n2,7\n", "line 2 of .* has 2 cells, but line 1 has 1 cell"),
            ("Report\na,b\n1,2\n", "line 2 of .* has 2 cells, but line 1 has 1 cell"),
        ],
    )
    def test_other_numbers_of_cells_are_refused(self, content, message, read):
        with pytest.raises(ValueError, match=message):
            read(content)

    @pytest.mark.parametrize(
        ("content", "row_names"),
        [
            ('"a" "b"\n"r1" 1 2\n"r2" 3 4\n', ["r1", "r2"]),
            ("a,b\n1,1,2\n2,3,4\n", ["1", "2"]),
            ('"","a","b"\n"1",1,2\n"2",3,4\n', ["1", "2"]),
            (",a,b\n0,1,2\n1,3,4\n", ["0", "1"]),
            ("Unnamed: 0,a,b\n0,1,2\n1,3,4\n", ["0", "1"]),
        ],
        ids=["write.table", "numbers", "write.csv", "to_csv", "read again"],
    )
    def test_names_of_rows(self, content, row_names, read):
        with pytest.warns(UserWarning, match="first column of .* the names of the rows"):
            table = read(content)
        assert table.names == ["a", "b"]
        assert_columns(table, [1, 3], [2, 4])
        assert table.row_names.tolist() == row_names

    def test_blocks_are_joined(self, read, monkeypatch):
        content = "a,b,c\n1,2,x\n3,y,x\n5,6,\nNA,8,x\n"
        whole = read(content)
        monkeypatch.setattr(tables, "_CELLS_A_BLOCK", 3)
        in_blocks = read(content)
        for table in (whole, in_blocks):
            assert_columns(table, [1, 3, 5, nan], ["2", "y", "6", "8"], ["x", "x", None, "x"])
        assert in_blocks.lines.tolist() == [2, 3, 4, 5]


class TestHeader:
    @pytest.mark.parametrize(
        ("content", "has_names"),
        [
            ("1,2\n3,4\n", False),
            ("1,2\n", False),
            ("a,b\n", True),
            ("1,,3\n4,5,6\n", False),
            (",2,3\n4,5,6\n", False),
            ("1,?,3\n2,4,5\n?,2,2\n", False),
            ("1,,ok\n2,3,ok\n", False),
            ("5.1,3.5,setosa\n4.9,3,setosa\n", False),
            ("k,l\nq,y\np,x\n", True),
            ("a,2020\n1,2\n3,4\n", True),
            ("a,b\n,\n", True),
            ("0\n1\n0\n", False),
            ("1,2,3\n4,5,6\n", False),
            ("5,7,6,8\n.1,.2,.3,.4\n", False),
        ],
    )
    def test_is_found_out(self, content, has_names, read):
        table = read(content)
        assert table.has_names == has_names
        assert len(table) == content.count("\n") - has_names

    @pytest.mark.parametrize(
        "content",
        [
            "0,1,2,3\n4,5,6,7\n",
            "0,1\n4.5,5.5\n",
            "0\n1.5\n",
            "1,2,3,4\n.1,.2,.3,.4\n",
            "2019,2020,2021,2022\n.1,.2,.3,.4\n",
        ],
    )
    def test_that_counts_is_told(self, content, read):
        with pytest.warns(UserWarning, match="read as the names of the columns, as pandas"):
            table = read(content)
        assert table.has_names
        assert len(table) == 1
        assert len(read(content, header=False)) == 2

    def test_of_pandas(self, tmp_path):
        pandas = pytest.importorskip("pandas")
        X = np.random.default_rng(0).normal(size=(20, 7))
        path = tmp_path / "x.csv"
        for index in (False, True):
            pandas.DataFrame(X).to_csv(path, index=index)
            with pytest.warns(UserWarning, match="read as the names"):
                table = read_table(path)
            np.testing.assert_array_equal(table.matrix(), X)

    def test_words_that_are_found_again_are_a_sample(self, read):
        with pytest.warns(UserWarning, match="read as a sample"):
            assert len(read("p,x\nq,y\np,x\n")) == 3

    @pytest.mark.parametrize(
        "content", ["1,2,ok\n3,4,bad\n", "0,1,2\n4,5,6\n", "1,2,3,4\n5,6,7,8\n", "x,2020\ny,1\n"]
    )
    def test_what_can_not_be_told_is_asked(self, content, read):
        with pytest.raises(ValueError, match=r"line 1 of .*header=True or header=False"):
            read(content)
        assert len(read(content, header=True)) == 1
        assert len(read(content, header=False)) == 2

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("a,b,a\n1,2,3\n", "2 columns have the name 'a' in line 1"),
            ("a,,b\n1,2,3\n", "column 2 has no name in line 1"),
            ("\n,a\n.5,2\n.6,3\n", "column 1 has no name in line 2"),
        ],
    )
    def test_names_that_can_not_be_used(self, content, message, read):
        with pytest.raises(ValueError, match=message):
            read(content)


class TestValues:
    def test_gaps(self, read):
        content = "".join(f"{value},x\n" for value in MISSING_VALUES)
        table = read("a,b\n1,NA\n" + content)
        assert_columns(table, [1, *[nan] * len(MISSING_VALUES)], [None, *"x" * len(MISSING_VALUES)])

    @pytest.mark.parametrize("gap", ["?", "-999", "missing"])
    def test_other_gaps(self, gap, read):
        assert_columns(read(f"a,b\n{gap},2\n1,3\n", missing_values=[gap]), [nan, 1], [2, 3])

    def test_other_gaps_take_the_place_of_the_usual_ones(self, read):
        table = read("a,b\nNA,1\nDE,2\n", missing_values=[])
        assert_columns(table, ["NA", "DE"], [1, 2])

    def test_true_and_false(self, read):
        table = read("a,b\nTrue,1\nfalse,2\n")
        assert_columns(table, [True, False], [1, 2])
        np.testing.assert_array_equal(table.matrix(), [[1, 1], [0, 2]])

    @pytest.mark.parametrize(
        ("content", "first"),
        [
            ("a,b\n$1.50,1\n-$2,2\n,3\n", [1.5, -2, nan]),
            ("a,b\n1.5 €,1\n2€,2\n", [1.5, 2]),
            ("a,b\n5 %,1\n12.5%,2\n", [5, 12.5]),
            ("a;b\n5,5 %;1\n12%;2\n", [5.5, 12]),
        ],
    )
    def test_signs_of_money_and_per_cent_are_taken_off(self, content, first, read):
        table = read(content)
        np.testing.assert_array_equal(table.columns[0], first)
        assert table.names == ["a", "b"]

    @pytest.mark.parametrize("cells", [["$1", "€2"], ["5%", "0.05"], ["$x", "$2"]])
    def test_signs_that_differ_leave_words(self, cells, read):
        assert_columns(read(f"a,b\n{cells[0]},1\n{cells[1]},2\n"), cells, [1, 2])

    @pytest.mark.parametrize("cell", ["9007199254740993", "1_000", "5 m", "0x10"])
    def test_what_no_float_holds_stays_text(self, cell, read):
        assert_columns(read(f"a,b\n{cell},1\n"), [cell], [1])

    def test_words_are_kept_as_they_are_written(self, read):
        assert_columns(read("id,b\n007,1\n", words=["id"]), ["007"], [1])

    def test_dates(self, read):
        content = "when,b\n2024-01-01,1\n2024-01-02T10:00:00+02:00,2\n,3\n"
        when = read(content, dates=["when"]).columns[0]
        expected = ["2024-01-01", "2024-01-02T08:00:00", "NaT"]
        np.testing.assert_array_equal(when, np.array(expected, dtype="datetime64[us]"))
        with pytest.raises(
            ValueError, match=r"'1/2/2024' in line 2 .*column 'when', is not a date"
        ):
            read("when,b\n1/2/2024,1\n", dates=["when"])

    @pytest.mark.parametrize("cells", ["31.1.2024,1\n1.2.2024,2", "31/1/2024,1\n1/2/2024,2"])
    def test_dates_of_other_forms(self, cells, read):
        when = read(f"when,b\n{cells}\n", dates=["when"]).columns[0]
        np.testing.assert_array_equal(when, np.array(["2024-01-31", "2024-02-01"], dtype="M8[us]"))

    def test_the_matrix_names_every_column_that_is_no_number(self, read):
        table = read("id,b,c,d,e\nT1,1,,2024-01-01,1\nT2,inf,5,2024-01-02,2\n", dates=["d"])
        told = (
            r"'id' \(strings such as 'T1', 'T2'\), 'b' \(infinity in line 3\), "
            r"'c' \(1 missing value, the first in line 2\), 'd' \(dates\); leave them out"
        )
        with pytest.raises(ValueError, match=told):
            table.matrix()
        np.testing.assert_array_equal(table.select([4]).matrix(), [[1], [2]])
        assert table.position("-1") == table.position("e") == 4


class TestTypographicMinus:
    def test_numbers_are_read(self, read):
        table = read("a,b\n\u22121,2e\u22123\n3,\u2212.5\n")
        assert_columns(table, [-1, 3], [0.002, -0.5])
        assert_columns(read("a;b\n\u22121,5;\u2212$2\n3,25;$4\n"), [-1.5, 3.25], [-2, 4])
        assert_columns(read("a;b\n\u22121.234,5;1\n2;3\n"), [-1234.5, 2], [1, 3])

    @pytest.mark.parametrize("dash", "\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d")
    def test_any_dash_is_one_before_a_number(self, read, dash):
        assert_columns(read(f"a,b\n{dash}1,2e{dash}1\n3,{dash}4\n"), [-1, 3], [0.2, -4])

    @pytest.mark.parametrize("words", [["3\u20135", "5\u20137"], ["\u2013 x", "\u2013"]])
    def test_ranges_and_words_keep_a_dash(self, read, words):
        assert_columns(read(f"a,b\n{words[0]},1\n{words[1]},2\n"), words, [1, 2])

    def test_it_makes_no_name_of_a_first_row(self, read):
        assert_columns(read("\u22121,2\n3,\u22124\n"), [-1, 3], [2, -4])

    def test_a_gap_is_one_with_either_sign(self, read):
        for gap in ("-999", "\u2212999"):
            table = read("a,b\n\u2212999,1\n3,-999\n", missing_values=[gap])
            assert_columns(table, [nan, 3], [1, nan])

    def test_words_keep_it(self, read):
        assert_columns(read("a,b\nx\u22121,1\n\u2212,2\n"), ["x\u22121", "\u2212"], [1, 2])

    def test_integers_that_no_float_holds_stay_words(self, read):
        assert_columns(read(f"a\n\u2212{2**53 + 1}\n3\n"), [f"-{2**53 + 1}", "3"])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^there is no file .*none\.csv$"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(IsADirectoryError, match="is a folder, but must be a file"):
        read_table(tmp_path)


class TestNumbersOfOtherScripts:
    def test_of_full_width(self, read):
        table = read("a,b\n\uff0d\uff11\uff0e\uff15,\uff13\uff05\n2,4%\n")
        assert_columns(table, [-1.5, 2], [3, 4])

    def test_arabic_digits(self, read):
        assert_columns(read("a,b\n\u0661\u0662,-\u0663\n2,4\n"), [12, 2], [-3, 4])

    @pytest.mark.parametrize("space", "\xa0\u2007\u2009\u202f")
    def test_spaces_between_thousands(self, read, space):
        table = read(f"a;b\n1{space}234,5;2\n3,5;4\n")
        assert_columns(table, [1234.5, 3.5], [2, 4])
        assert_columns(read(f"a;b\n1{space}234;2\n3;4\n", thousands=space), [1234, 3], [2, 4])
        with pytest.raises(ValueError, match="'1\\\\xa0234' in line 2, which may have a th"):
            read(f"a;b\n1{space}234;2\n3;4\n")
        # In a table that blanks part, they are no blanks.
        assert_columns(read(f"a b\n1{space}234.5 2\n3.5 4\n"), [1234.5, 3.5], [2, 4])

    @pytest.mark.parametrize("mark", "'\u2019\uff07")
    def test_apostrophes_between_thousands(self, read, mark):
        assert_columns(read(f"a;b\n1{mark}234.5;2\n3.5;4\n"), [1234.5, 3.5], [2, 4])

    @pytest.mark.parametrize("unseen", "\u200b\u200e\u200f\u202a\u2060\ufeff")
    def test_what_is_not_seen_is_no_part_of_a_number(self, read, unseen):
        assert_columns(read(f"a,b\n{unseen}-1.5,2\n3,4{unseen}\n"), [-1.5, 3], [2, 4])
        assert_columns(read(f"a,b\n{unseen}x,2\ny,4\n"), [f"{unseen}x", "y"], [2, 4])

    def test_words_keep_their_digits(self, read):
        assert_columns(read("a,b\nx\uff11,1\n2\xb2,2\n"), ["x\uff11", "2\xb2"], [1, 2])
