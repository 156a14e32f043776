using System.Text;
using CsCheck;
using Pandora.Engine.Guests;

namespace Pandora.Tests.Guests;

public sealed class GuestOutputTests
{
    // Bytes that make all kinds of valid and damaged characters, U+FFFD (EF BF BD) among them, likely.
    private static readonly Gen<byte> Bytes = AnyOf<byte>(
        0x00, 0x61, 0x7F, 0x80, 0x9F, 0xA0, 0xBD, 0xBF, 0xC0, 0xC3, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF);

    private static readonly Gen<byte[]> Parts = Gen.OneOf(
        Bytes.Array[0, 4], AnyOf("\uFFFD"u8.ToArray(), "é"u8.ToArray(), "€"u8.ToArray(), "🚀"u8.ToArray(), "a"u8.ToArray()));

    private static readonly Gen<byte[]> Texts = Parts.Array[0, 12].Select(parts => parts.SelectMany(p => p).ToArray());

    [Fact]
    public void Text_is_lossy_exactly_when_the_bytes_are_not_UTF8_wherever_they_are_cut() =>
        Gen.Select(Texts, Gen.Int[1, 7].Array[0, 40]).Sample((bytes, cuts) =>
        {
            var isReported = false;
            var text = Read(new GuestOutput(Cut(bytes, cuts), isTruncated: false), () => isReported = true);
            Assert.Equal(Encoding.UTF8.GetString(bytes), text);
            Assert.Equal(!IsUtf8(bytes), isReported);
        });

    [Fact]
    public void A_character_that_the_limit_cut_is_not_lossy() =>
        Gen.Select(Parts.Array[0, 12], Gen.Int[0, 40], Gen.Int[1, 7].Array[0, 40]).Sample((parts, limit, cuts) =>
        {
            var valid = parts.Where(IsUtf8).SelectMany(p => p).ToArray();
            var isReported = false;
            var text = Read(new GuestOutput(Cut(valid[..Math.Min(limit, valid.Length)], cuts), isTruncated: true), () => isReported = true);
            Assert.StartsWith(text, Encoding.UTF8.GetString(valid), StringComparison.Ordinal);
            Assert.False(isReported);
        });

    [Theory]
    [InlineData(new byte[] { 0xFF }, true, true)]
    [InlineData(new byte[] { 0x61, 0xE2, 0x82 }, false, true)]
    [InlineData(new byte[] { 0x61, 0xE2, 0x82 }, true, false)]
    [InlineData(new byte[] { 0xFF, 0xE2, 0x82 }, true, true)]
    [InlineData(new byte[] { 0xEF, 0xBF, 0xBD }, false, false)]
    [InlineData(new byte[] { 0xEF, 0xEF, 0xBF, 0xBD }, false, true)]
    [InlineData(new byte[] { 0xEF, 0xBF, 0xEF, 0xBF, 0xBD }, false, true)]
    public void What_is_replaced_is_reported(byte[] bytes, bool isTruncated, bool isLossy)
    {
        var isReported = false;
        Read(new GuestOutput([bytes], isTruncated), () => isReported = true);
        Assert.Equal(isLossy, isReported);
    }

    [Fact]
    public void Bytes_are_read_as_they_came() =>
        Gen.Select(Texts, Gen.Int[1, 7].Array[0, 40]).Sample((bytes, cuts) =>
            Assert.Equal(bytes, new GuestOutput(Cut(bytes, cuts), isTruncated: false).ReadBytes().SelectMany(p => p.ToArray())));

    private static Gen<T> AnyOf<T>(params T[] values) => Gen.Int[0, values.Length - 1].Select(i => values[i]);

    private static string Read(GuestOutput output, Action onReplaced)
    {
        var text = new StringBuilder();
        foreach (var piece in output.ReadText(onReplaced))
        {
            text.Append(piece.Span);
        }

        return text.ToString();
    }

    private static List<ReadOnlyMemory<byte>> Cut(byte[] bytes, int[] cuts)
    {
        var pieces = new List<ReadOnlyMemory<byte>>();
        var position = 0;
        foreach (var cut in cuts.Append(bytes.Length))
        {
            var count = Math.Min(cut, bytes.Length - position);
            pieces.Add(bytes.AsMemory(position, count));
            position += count;
        }

        return pieces;
    }

    private static bool IsUtf8(byte[] bytes) => System.Text.Unicode.Utf8.IsValid(bytes);
}
