using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Protocol.Ports;

/// <summary>Body of <see cref="PortMessage.Connect"/>. The agent tries 127.0.0.1, then ::1, then the other addresses of the guest on which
/// a program listens on the port.</summary>
/// <param name="Port">The port: 1 to 65,535.</param>
internal sealed record ConnectRequest(int Port)
{
    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter().Number(Port).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static ConnectRequest Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var request = new ConnectRequest(reader.Number(1, ushort.MaxValue));
        reader.End();
        return request;
    }
}

/// <summary>Body of <see cref="PortMessage.Ssh"/>.</summary>
/// <param name="Keys">The public keys that may log in, lines of <c>authorized_keys</c> (sshd(8)) without options.</param>
internal sealed record SshRequest(IReadOnlyList<string> Keys)
{
    /// <summary>Most keys.</summary>
    public const int MaxKeys = 64;

    /// <summary>Most bytes of all keys. One message has room for them.</summary>
    public const int MaxBytes = 24 * 1024;

    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter().Texts(Keys).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static SshRequest Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var request = new SshRequest(reader.Texts());
        reader.End();
        return request.Keys.Count <= MaxKeys && !request.Keys.Any(k => k.AsSpan().IndexOfAny('\n', '\r', '\0') >= 0)
            ? request
            : throw new FormatException("keys that are too many, or no lines");
    }
}

/// <summary>One port on which a program listens at one address: body of <see cref="PortMessage.Entry"/>.</summary>
/// <param name="Port">The port.</param>
/// <param name="Address">The address: 4 or 16 bytes, all zero for every address.</param>
/// <param name="Pid">Pid of one program that has the socket; 0 when it was not found.</param>
/// <param name="Program">Name of that program, as the kernel has it; empty when it was not found.</param>
internal sealed record PortEntry(int Port, byte[] Address, int Pid, string Program)
{
    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter().Number(Port).Bytes(Address).Number(Pid).Text(Program).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static PortEntry Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var entry = new PortEntry(reader.Number(1, ushort.MaxValue), reader.Bytes(), reader.Number(0, int.MaxValue), reader.Text() ?? "");
        reader.End();
        return entry.Address.Length is 4 or 16 ? entry : throw new FormatException("an address that is none");
    }
}

/// <summary>Body of <see cref="PortMessage.Failed"/>.</summary>
/// <param name="Kind">Why.</param>
/// <param name="Reason">The reason in words.</param>
internal sealed record PortFailure(PortFailureKind Kind, string Reason)
{
    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter().Number((byte)Kind).Text(Reason).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static PortFailure Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var kind = (PortFailureKind)reader.Number(0, byte.MaxValue);
        var failure = new PortFailure(kind, reader.Text() ?? "");
        reader.End();
        return failure;
    }
}
