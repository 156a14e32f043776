using System.Text;

namespace Pandora.Engine.Guests;

/// <summary>One output of a command, kept as the bytes that came: as a string it would take twice the memory, in one block.</summary>
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

    /// <summary>An output without bytes.</summary>
    public static GuestOutput Empty { get; } = new([], isTruncated: false);

    /// <summary>Number of bytes kept.</summary>
    public long Length { get; }

    /// <summary>Whether the command printed more than was kept.</summary>
    public bool IsTruncated { get; }

    /// <summary>Makes an output from a text.</summary>
    public static GuestOutput FromText(string text) => new([Encoding.UTF8.GetBytes(text)], isTruncated: false);

    /// <summary>Reads the output as it came, in pieces.</summary>
    public IEnumerable<ReadOnlyMemory<byte>> ReadBytes() => _pieces;

    /// <summary>
    /// Reads the output as UTF-8, in pieces. Each piece is valid until the caller asks for the next. A character that the output limit cut
    /// is omitted; bytes that are not UTF-8 become U+FFFD.
    /// </summary>
    /// <param name="onReplaced">Called after the last piece if bytes became U+FFFD.</param>
    public IEnumerable<ReadOnlyMemory<char>> ReadText(Action? onReplaced = null)
    {
        var decoder = Encoding.UTF8.GetDecoder();
        var replacements = 0L;
        var buffer = new char[(int)Math.Min(CharsAtOnce, Math.Max(Length, 2))];
        for (var i = 0; i < _pieces.Count; i++)
        {
            // Without a flush the decoder does not return the beginning of a character: the one that the output limit cut.
            var flush = i == _pieces.Count - 1 && !IsTruncated;
            var rest = _pieces[i];
            for (var isComplete = false; !isComplete;)
            {
                decoder.Convert(rest.Span, buffer, flush, out var used, out var count, out isComplete);
                rest = rest[used..];
                if (count > 0)
                {
                    replacements += buffer.AsSpan(0, count).Count('\uFFFD');
                    yield return buffer.AsMemory(0, count);
                }
            }
        }

        // A command may write U+FFFD itself. A decoder's own fallback would tell the two apart, and takes a call and an object for each.
        if (replacements > 0 && replacements > CountWrittenReplacements())
        {
            onReplaced?.Invoke();
        }
    }

    /// <summary>Returns the whole output as one string.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        foreach (var piece in ReadText())
        {
            text.Append(piece.Span);
        }

        return text.ToString();
    }

    // The byte EF only begins a character, so these three bytes are U+FFFD wherever they are.
    private long CountWrittenReplacements()
    {
        ReadOnlySpan<byte> replacement = "\uFFFD"u8;
        var (count, matched) = (0L, 0);
        foreach (var piece in _pieces)
        {
            foreach (var value in piece.Span)
            {
                matched = value == replacement[matched] ? matched + 1 : value == replacement[0] ? 1 : 0;
                if (matched == replacement.Length)
                {
                    (count, matched) = (count + 1, 0);
                }
            }
        }

        return count;
    }
}
