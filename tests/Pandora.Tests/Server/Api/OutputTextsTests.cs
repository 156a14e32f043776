using System.Text;
using CsCheck;
using Pandora.Contracts;
using Pandora.Engine.Guests;
using Pandora.Server.Api;

namespace Pandora.Tests.Api;

/// <summary>Output that is cut into texts loses no byte and no character, wherever it was cut before.</summary>
public sealed class OutputTextsTests
{
    private static readonly Gen<byte[]> Bytes = Gen.OneOf(
        Of("a", "é", "€", "😀", "\n", "\u0000").Array[0, 12].Select(t => Encoding.UTF8.GetBytes(string.Concat(t))),
        Gen.OneOf(Gen.Byte, Of<byte>(0xC3, 0xE2, 0xF0, 0x9F, 0x82, 0xF5, 0xC0, 0xED, 0xA0)).Array[0, 12]);

    private static readonly Gen<(OutputStream Stream, byte[] Bytes)[]> Writes =
        Gen.Select(Of(OutputStream.Stdout, OutputStream.Stderr), Bytes).Array[0, 8];

    [Fact]
    public void Pieces_together_are_the_bytes_and_a_stream_can_begin_again_after_each() =>
        Gen.Select(Writes, Gen.Int[1, 5].Array[1, 20], Gen.Bool).Sample((writes, cuts, isBinary) =>
        {
            var all = writes.SelectMany(w => w.Bytes.Select(b => (w.Stream, b))).ToArray();
            var pieces = Cut(all, 0, cuts, isBinary);
            AssertWhole(all, 0, pieces);
            foreach (var id in pieces.Select(p => p.Offset + p.Bytes.Length))
            {
                AssertWhole(all, (int)id, Cut(all, (int)id, [.. cuts.Reverse()], isBinary));
            }

            Assert.All(pieces, p => Assert.Equal(!isBinary && !IsText(p.Bytes.Span), p.IsLossy));
            Assert.All(pieces, p => Assert.False(p.Bytes.IsEmpty));
        });

    [Fact]
    public void Valid_text_of_one_output_is_never_lossy() =>
        Gen.Select(Of("a", "é", "€", "😀").Array[1, 12], Gen.Int[1, 5].Array[1, 20]).Sample((text, cuts) =>
        {
            var all = Encoding.UTF8.GetBytes(string.Concat(text)).Select(b => (OutputStream.Stdout, b)).ToArray();
            var pieces = Cut(all, 0, cuts, isBinary: false);
            Assert.All(pieces, p => Assert.False(p.IsLossy));
            Assert.Equal(string.Concat(text), string.Concat(pieces.Select(p => Encoding.UTF8.GetString(p.Bytes.Span))));
        });

    [Theory]
    [InlineData("é")]
    [InlineData("€")]
    [InlineData("😀")]
    public void A_character_that_is_cut_is_held_until_the_rest_comes(string character)
    {
        var bytes = Encoding.UTF8.GetBytes(character);
        for (var cut = 1; cut < bytes.Length; cut++)
        {
            var texts = new OutputTexts(isBinary: false, 10);
            var pieces = new List<OutputPiece>();
            texts.Take(new ProcessOutput(OutputStream.Stdout, 10, bytes.AsMemory(0, cut)), null, pieces);
            Assert.Empty(pieces);
            Assert.Equal((10, 10 + cut), (texts.Offset, texts.ReadTo));
            texts.Take(new ProcessOutput(OutputStream.Stdout, 10 + cut, bytes.AsMemory(cut)), null, pieces);
            Assert.Equal((10L, false), (pieces.Single().Offset, pieces[0].IsLossy));
            Assert.Equal(bytes, pieces[0].Bytes.ToArray());
        }
    }

    [Fact]
    public void What_is_missing_is_said_before_what_follows_and_at_the_end()
    {
        var texts = new OutputTexts(isBinary: false, 0);
        var pieces = new List<OutputPiece>();
        texts.Take(new ProcessOutput(OutputStream.Stdout, 5, new byte[] { 0x61, 0xC3 }), null, pieces);
        Assert.Equal([new DroppedEvent(0, 5), null], pieces.Select(p => p.Dropped));
        // The rest of the character is missing.
        texts.Take(new ProcessOutput(OutputStream.Stdout, 9, "b"u8.ToArray()), null, pieces);
        Assert.Equal([null, new DroppedEvent(7, 9), null], pieces.Select(p => p.Dropped));
        Assert.Equal((6L, true), (pieces[0].Offset, pieces[0].IsLossy));
        texts.Take(null, 12, pieces);
        Assert.Equal(new DroppedEvent(10, 12), pieces.Single().Dropped);
        Assert.Equal(12, texts.Offset);
    }

    private static void AssertWhole((OutputStream Stream, byte Value)[] all, int from, List<OutputPiece> pieces)
    {
        long offset = from;
        foreach (var piece in pieces)
        {
            Assert.Null(piece.Dropped);
            Assert.Equal(offset, piece.Offset);
            var stream = piece.Stream == ProcessEvents.Stdout ? OutputStream.Stdout : OutputStream.Stderr;
            Assert.Equal(all.Skip((int)offset).Take(piece.Bytes.Length), piece.Bytes.ToArray().Select(b => (stream, b)));
            offset += piece.Bytes.Length;
        }

        Assert.Equal(all.Length, offset);
    }

    // Every read is of one output.
    private static List<OutputPiece> Cut((OutputStream Stream, byte Value)[] all, int from, int[] cuts, bool isBinary)
    {
        var texts = new OutputTexts(isBinary, from);
        var (now, pieces) = (new List<OutputPiece>(), new List<OutputPiece>());
        for (var (offset, i) = (from, 0); offset < all.Length; i++)
        {
            var stream = all[offset].Stream;
            var bytes = all.Skip(offset).Take(cuts[i % cuts.Length]).TakeWhile(b => b.Stream == stream).Select(b => b.Value).ToArray();
            texts.Take(new ProcessOutput(stream, offset, bytes), null, now);
            pieces.AddRange(now.Select(p => p with { Bytes = p.Bytes.ToArray() }));
            offset += bytes.Length;
            Assert.InRange(texts.ReadTo - texts.Offset, 0, 3);
        }

        texts.Take(null, all.Length, now);
        pieces.AddRange(now);
        return pieces;
    }

    private static Gen<T> Of<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(i => values[i]);

    private static bool IsText(ReadOnlySpan<byte> bytes) => System.Text.Unicode.Utf8.IsValid(bytes);
}
