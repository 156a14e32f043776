using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace Pandora.Agent.Protocol.Processes;

/// <summary>Writes the fields of a message's body, all numbers little endian.</summary>
internal sealed class BodyWriter
{
    private readonly ArrayBufferWriter<byte> _bytes = new();

    /// <summary>Writes a number in 8 bytes.</summary>
    public BodyWriter Number(long value)
    {
        BinaryPrimitives.WriteInt64LittleEndian(_bytes.GetSpan(8), value);
        _bytes.Advance(8);
        return this;
    }

    /// <summary>Writes a text after its length in bytes; null as the length -1.</summary>
    public BodyWriter Text(string? value) => value is null ? Number(-1) : Bytes(Encoding.UTF8.GetBytes(value));

    /// <summary>Writes bytes after their number.</summary>
    public BodyWriter Bytes(ReadOnlySpan<byte> value)
    {
        Number(value.Length);
        _bytes.Write(value);
        return this;
    }

    /// <summary>Writes texts after their number.</summary>
    public BodyWriter Texts(IReadOnlyList<string> values)
    {
        Number(values.Count);
        foreach (var value in values)
        {
            Text(value);
        }

        return this;
    }

    /// <summary>The body.</summary>
    public byte[] ToArray() => _bytes.WrittenSpan.ToArray();
}

/// <summary>Reads the fields of a message's body. Each length is checked before it is used.</summary>
internal ref struct BodyReader(ReadOnlySpan<byte> body)
{
    private ReadOnlySpan<byte> _rest = body;

    /// <summary>Reads what <see cref="BodyWriter.Number"/> wrote.</summary>
    /// <exception cref="FormatException">The body is cut off.</exception>
    public long Number()
    {
        var value = BinaryPrimitives.ReadInt64LittleEndian(Take(8));
        return value;
    }

    /// <summary>Reads a number that must be within bounds.</summary>
    /// <exception cref="FormatException">It is not, or the body is cut off.</exception>
    public int Number(int least, int most) =>
        Number() is var value && value >= least && value <= most
            ? (int)value
            : throw new FormatException($"{value} is not between {least} and {most}");

    /// <summary>Reads what <see cref="BodyWriter.Text"/> wrote.</summary>
    /// <exception cref="FormatException">The body is cut off.</exception>
    public string? Text() => Number(-1, _rest.Length) is var length && length < 0 ? null : Encoding.UTF8.GetString(Take(length));

    /// <summary>Reads what <see cref="BodyWriter.Bytes"/> wrote.</summary>
    /// <exception cref="FormatException">The body is cut off.</exception>
    public byte[] Bytes() => Take(Number(0, _rest.Length)).ToArray();

    /// <summary>Reads what <see cref="BodyWriter.Texts"/> wrote.</summary>
    /// <exception cref="FormatException">The body is cut off, or a text is null.</exception>
    public string[] Texts()
    {
        var values = new string[Number(0, _rest.Length / 8)];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = Text() ?? throw new FormatException("a text is missing");
        }

        return values;
    }

    /// <summary>The fields that were not read yet.</summary>
    public readonly ReadOnlySpan<byte> Rest => _rest;

    /// <summary>Checks that nothing follows.</summary>
    /// <exception cref="FormatException">Something follows.</exception>
    public readonly void End()
    {
        if (!_rest.IsEmpty)
        {
            throw new FormatException("the message is too long");
        }
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        if (_rest.Length < count)
        {
            throw new FormatException("the message is cut off");
        }

        var taken = _rest[..count];
        _rest = _rest[count..];
        return taken;
    }
}
