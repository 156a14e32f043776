using System.Text;

namespace Pandora.Engine.Guests;

/// <summary>
/// One output of a command, as the bytes that came: a text of it would be twice as long, and would have to be in one piece.
/// </summary>
public sealed class GuestOutput
{
    private const int CharsAtOnce = 16 * 1024;
    private readonly IReadOnlyList<ReadOnlyMemory<byte>> _pieces;

    internal GuestOutput(IReadOnlyList<ReadOnlyMemory<byte>> pieces, bool isTruncated)
    {
        _pieces = pieces;
        IsTruncated = isTruncated;
        Length = pieces.Sum(p => (long)p.Length);
    }

    /// <summary>Nothing.</summary>
    public static GuestOutput Empty { get; } = new([], isTruncated: false);

    /// <summary>Bytes.</summary>
    public long Length { get; }

    /// <summary>Whether more came than was kept.</summary>
    public bool IsTruncated { get; }

    /// <summary>Makes one of a text.</summary>
    public static GuestOutput FromText(string text) => new([Encoding.UTF8.GetBytes(text)], isTruncated: false);

    /// <summary>
    /// Reads it as UTF-8, in pieces that are each valid until the next is asked for. A character that the limit cut is left out; bytes
    /// that are not UTF-8 become U+FFFD.
    /// </summary>
    public IEnumerable<ReadOnlyMemory<char>> ReadText()
    {
        var decoder = Encoding.UTF8.GetDecoder();
        var buffer = new char[(int)Math.Min(CharsAtOnce, Math.Max(Length, 2))];
        for (var i = 0; i < _pieces.Count; i++)
        {
            // Not flushed, a decoder keeps the beginning of a character to itself: the one that the limit cut.
            var flush = i == _pieces.Count - 1 && !IsTruncated;
            var rest = _pieces[i];
            for (var isComplete = false; !isComplete;)
            {
                decoder.Convert(rest.Span, buffer, flush, out var used, out var count, out isComplete);
                rest = rest[used..];
                if (count > 0)
                {
                    yield return buffer.AsMemory(0, count);
                }
            }
        }
    }

    /// <summary>The whole as one text.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        foreach (var piece in ReadText())
        {
            text.Append(piece.Span);
        }

        return text.ToString();
    }
}
