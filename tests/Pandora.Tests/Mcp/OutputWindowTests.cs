using System.Text;
using CsCheck;
using Pandora.Mcp.Processes;

namespace Pandora.Tests.Mcp;

/// <summary>The head and the tail of output that is too long.</summary>
public sealed class OutputWindowTests
{
    [Fact]
    public void What_fits_is_whole()
    {
        var window = new OutputWindow(200, 7);
        window.Add(7, "ab"u8);
        window.Add(9, "cd"u8);
        Assert.Equal(("abcd", 11, 0, null), (window.Text(), window.Next, window.Lost, window.Cut));
    }

    [Fact]
    public void A_character_that_comes_in_two_pieces_is_whole()
    {
        var (window, bytes) = (new OutputWindow(200, 0), Encoding.UTF8.GetBytes("a€😀"));
        for (var i = 0; i < bytes.Length; i++)
        {
            window.Add(i, bytes.AsSpan(i, 1));
        }

        Assert.Equal(("a€😀", 0), (window.Text(), window.Invalid));
    }

    [Fact]
    public void Reads_that_stop_anywhere_give_whole_characters_and_nothing_twice()
    {
        Gen.Select(Gen.String[Gen.Char["a\n€é"], 0, 400], Gen.Int[1, 90]).Sample((text, piece) =>
        {
            var bytes = Encoding.UTF8.GetBytes($"😀{text}😀");
            var (shown, cursor) = (new StringBuilder(), 0L);
            for (var end = 1; end <= bytes.Length; end = Math.Min(end + piece, bytes.Length + (end == bytes.Length ? 1 : 0)))
            {
                var window = new OutputWindow(2000, cursor);
                window.Add(cursor, bytes.AsSpan((int)cursor, end - (int)cursor));
                var hasText = window.HasText;
                window.HoldBack();
                shown.Append(window.Text());
                Assert.Equal((0, hasText), (window.Invalid, window.Next > cursor));
                cursor = window.Next;
            }

            Assert.Equal(($"😀{text}😀", bytes.Length), (shown.ToString(), cursor));
        });
    }

    [Theory]
    [InlineData(301, 1)]
    [InlineData(302, 2)]
    [InlineData(303, 2)]
    public void The_beginning_of_a_character_is_held_back_from_the_tail_and_the_head(int before, int held)
    {
        // The head has room for 303 bytes.
        var (window, bytes) = (new OutputWindow(200, 0), Encoding.UTF8.GetBytes($"{new string('x', before)}€"));
        window.Add(0, bytes.AsSpan(0, before + held));
        window.HoldBack();
        Assert.Equal(before, window.Next);
        Assert.EndsWith("x", window.Text(), StringComparison.Ordinal);
        Assert.Equal((0, before), (window.Invalid, window.Next));
    }

    [Fact]
    public void What_is_lost_at_the_end_is_counted()
    {
        var window = new OutputWindow(200, 0);
        window.LoseTo(10);
        Assert.Equal(("", 10, 10, null), (window.Text(), window.Lost, window.Next, window.Cut));
        window.Add(10, "ab"u8);
        window.LoseTo(20);
        window.LoseTo(15);
        Assert.Equal(("ab\n[8 bytes are lost here]\n", 18, 20, null), (window.Text(), window.Lost, window.Next, window.Cut));
    }

    [Fact]
    public void Bytes_that_are_no_text_are_counted()
    {
        var window = new OutputWindow(200, 0);
        window.Add(0, [0x61, 0xFF, 0xFE, 0x62]);
        Assert.Equal(("a\uFFFD\uFFFDb", 2), (window.Text(), window.Invalid));
    }

    [Fact]
    public void Of_too_much_the_middle_is_cut_and_the_cursors_lead_to_it()
    {
        Gen.Select(Gen.String[Gen.Char["ab\n€é"], 0, 900], Gen.Int[200, 260], Gen.Int[1, 50]).Sample((text, most, piece) =>
        {
            var bytes = Encoding.UTF8.GetBytes(text + "😀");
            var window = new OutputWindow(most, 100);
            for (var at = 0; at < bytes.Length; at += piece)
            {
                window.Add(100 + at, bytes.AsSpan(at, Math.Min(piece, bytes.Length - at)));
            }

            var shown = window.Text();
            Assert.Equal(100 + bytes.Length, window.Next);
            if (window.Cut is not { } cut)
            {
                Assert.Equal(text + "😀", shown);
                return;
            }

            Assert.True((text + "😀").Length > most);
            var (head, tail) = (bytes[..(int)(cut.Cursor - 100)], bytes[(int)(cut.ToCursor - 100)..]);
            Assert.Equal(cut.Bytes, cut.ToCursor - cut.Cursor);
            Assert.StartsWith($"{Encoding.UTF8.GetString(head)}\n[{cut.Bytes} bytes are cut", shown, StringComparison.Ordinal);
            Assert.EndsWith($"]\n{Encoding.UTF8.GetString(tail)}", shown, StringComparison.Ordinal);
            Assert.InRange(Encoding.UTF8.GetCharCount(head) + Encoding.UTF8.GetCharCount(tail), most - 4, most);
            Assert.Equal(0, window.Invalid);
        });
    }

    [Fact]
    public void A_gap_is_lost_and_is_not_said_to_be_cut()
    {
        var window = new OutputWindow(200, 0);
        window.Add(0, "head"u8);
        window.Add(1000, "tail"u8);
        Assert.Equal(("head\n[996 bytes are lost here]\ntail", 996, null), (window.Text(), window.Lost, window.Cut));
        window.Add(1004, new byte[2000]);
        // Of the tail, 100 characters are shown.
        Assert.StartsWith("head\n[1904 bytes are cut here", window.Text(), StringComparison.Ordinal);
        Assert.Equal(new Cut(1904, 4, 2904), window.Cut);
    }

    [Theory]
    [InlineData(0, "800 bytes are cut here: process_read reads them with cursor 100 and to_cursor 900", 0, 800)]
    [InlineData(
        300, "200 bytes are lost here, and 600 bytes are cut here: process_read reads them with cursor 300 and to_cursor 900", 200, 600)]
    [InlineData(950, "800 bytes are lost here", 800, 0)]
    public void Of_what_is_cut_only_what_the_sandbox_still_has_can_be_read(int kept, string says, int lost, int cut)
    {
        var window = new OutputWindow(200, 0);
        window.Add(0, Encoding.UTF8.GetBytes(new string('x', 1000)));
        window.KeptFrom(kept);
        for (var i = 0; i < 2; i++)
        {
            Assert.Equal($"{new string('x', 100)}\n[{says}]\n{new string('x', 100)}", window.Text());
            Assert.Equal((lost, cut), (window.Lost, window.Cut?.Bytes ?? 0));
        }
    }

    [Fact]
    public void A_gap_at_the_beginning_cuts_nothing()
    {
        var window = new OutputWindow(200, 10);
        window.Add(1000, "tail"u8);
        Assert.Equal(("tail", 990, null, 1004), (window.Text(), window.Lost, window.Cut, window.Next));
    }

    [Theory]
    [InlineData("", null)]
    [InlineData("\n\r\n", null)]
    [InlineData("one\ntwo\n", "two")]
    [InlineData("10 %\r20 %", "20 %")]
    [InlineData("a\u202eb\u2028c\u2029d\u001b[1me", "abcd[1me")]
    [InlineData("\u001b[31mred\u001b[0m\n", "[31mred[0m")]
    public void The_last_line_is_text(string text, string? line)
    {
        var window = new OutputWindow(200, 0);
        window.Add(0, Encoding.UTF8.GetBytes(text));
        Assert.Equal(line, window.LastLine());
    }

    [Fact]
    public void The_memory_of_endless_output_is_bounded()
    {
        var (window, piece) = (new OutputWindow(200, 0), new byte[32 * 1024]);
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1000; i++)
        {
            window.Add((long)i * piece.Length, piece);
        }

        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1024 * 1024);
    }
}
