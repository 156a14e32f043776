using System.Text;
using System.Text.Unicode;
using Pandora.Contracts;
using Pandora.Engine.Guests;

namespace Pandora.Server.Api;

/// <summary>A piece of output for a client, or what is missing.</summary>
/// <param name="Stream">Name of the event: <c>stdout</c> or <c>stderr</c>.</param>
/// <param name="Offset">Offset of the first byte.</param>
/// <param name="Bytes">The bytes, which end with a whole character where the output is text.</param>
/// <param name="IsLossy">Whether they are not UTF-8.</param>
/// <param name="Dropped">What is missing; the other members then say nothing.</param>
internal readonly record struct OutputPiece(
    string Stream, long Offset, ReadOnlyMemory<byte> Bytes, bool IsLossy = false, DroppedEvent? Dropped = null);

/// <summary>
/// Cuts output into pieces that a client can take as text. A character that a read has cut is held until the rest of it comes. The offset
/// after each piece is one from which the stream can begin again.
/// </summary>
/// <param name="isBinary">Whether the client takes bytes, so that no character is held.</param>
/// <param name="from">Offset at which the stream begins.</param>
internal sealed class OutputTexts(bool isBinary, long from)
{
    private readonly byte[] _held = new byte[4];
    private byte[] _joined = [];
    private OutputStream _heldOf;
    private int _heldCount;
    private long _read = from;

    /// <summary>Offset after the last piece.</summary>
    public long Offset => _read - _heldCount;

    /// <summary>Offset after what was taken, given out or held.</summary>
    public long ReadTo => _read;

    /// <summary>Takes the next output; null at the end, where what is held is given out.</summary>
    /// <param name="output">The output.</param>
    /// <param name="endOffset">At the end, the offset after all output, where it is known.</param>
    /// <param name="pieces">Receives the pieces; those of the last call are removed.</param>
    public void Take(ProcessOutput? output, long? endOffset, List<OutputPiece> pieces)
    {
        pieces.Clear();
        if (output is not { } read)
        {
            GiveHeld(pieces);
            AddDropped(endOffset ?? _read, pieces);
            return;
        }

        if (read.Offset != _read || read.Stream != _heldOf)
        {
            GiveHeld(pieces);
            AddDropped(read.Offset, pieces);
        }

        var bytes = Join(read.Bytes);
        var begin = _read - _heldCount;
        _read += read.Bytes.Length;
        _heldCount = isBinary ? 0 : CountOfCut(bytes.Span);
        _heldOf = read.Stream;
        bytes.Span[^_heldCount..].CopyTo(_held);
        var whole = bytes[..^_heldCount];
        if (!whole.IsEmpty)
        {
            pieces.Add(new OutputPiece(NameOf(read.Stream), begin, whole, !isBinary && !Utf8.IsValid(whole.Span)));
        }
    }

    // Bytes at the end that are the beginning of a character.
    private static int CountOfCut(ReadOnlySpan<byte> bytes)
    {
        for (var count = 1; count <= Math.Min(3, bytes.Length); count++)
        {
            if ((bytes[^count] & 0b1100_0000) != 0b1000_0000)
            {
                return Rune.DecodeFromUtf8(bytes[^count..], out _, out _) == System.Buffers.OperationStatus.NeedMoreData ? count : 0;
            }
        }

        return 0;
    }

    private static string NameOf(OutputStream stream) => stream == OutputStream.Stdout ? ProcessEvents.Stdout : ProcessEvents.Stderr;

    private ReadOnlyMemory<byte> Join(ReadOnlyMemory<byte> bytes)
    {
        if (_heldCount == 0)
        {
            return bytes;
        }

        if (_joined.Length < _heldCount + bytes.Length)
        {
            _joined = new byte[_held.Length + bytes.Length];
        }

        _held.AsSpan(0, _heldCount).CopyTo(_joined);
        bytes.CopyTo(_joined.AsMemory(_heldCount));
        return _joined.AsMemory(0, _heldCount + bytes.Length);
    }

    private void GiveHeld(List<OutputPiece> pieces)
    {
        if (_heldCount > 0)
        {
            pieces.Add(new OutputPiece(NameOf(_heldOf), Offset, _held.AsSpan(0, _heldCount).ToArray(), IsLossy: true));
            _heldCount = 0;
        }
    }

    private void AddDropped(long offset, List<OutputPiece> pieces)
    {
        if (offset != _read)
        {
            pieces.Add(new OutputPiece("", _read, default, Dropped: new DroppedEvent(_read, offset)));
            _read = offset;
        }
    }
}
