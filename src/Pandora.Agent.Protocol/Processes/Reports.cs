namespace Pandora.Agent.Protocol.Processes;

/// <summary>How a process ended: body of <see cref="ProcessMessage.Ended"/>.</summary>
/// <param name="ExitCode">Exit code; 128 + n for signal n.</param>
/// <param name="HasReachedLimit">Whether its time was over, so that the agent killed it.</param>
/// <param name="HasLeftovers">Whether processes that it started live on.</param>
/// <param name="OomLimit">When the memory killer killed one of its processes: the limit in bytes; else 0.</param>
/// <param name="Offset">Offset after its last output.</param>
internal sealed record EndReport(int ExitCode, bool HasReachedLimit, bool HasLeftovers, long OomLimit, long Offset)
{
    /// <summary>When its time was over, what was left after the kill; else nothing.</summary>
    public KillReport Kill { get; init; }

    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter().Number(ExitCode).Number(HasReachedLimit ? 1 : 0).Number(HasLeftovers ? 1 : 0)
        .Number(OomLimit).Number(Offset).Number((byte)Kill).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static EndReport Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var report = new EndReport(
            reader.Number(0, 255), reader.Number(0, 1) == 1, reader.Number(0, 1) == 1, Math.Max(0, reader.Number()), reader.Number())
        {
            Kill = (KillReport)reader.Number(0, 15),
        };
        reader.End();
        return report;
    }
}

/// <summary>Kinds of failures of a request.</summary>
internal enum FailureKind : byte
{
    /// <summary>The guest could not: it has no memory, no process ids, or another error.</summary>
    Guest = 0,

    /// <summary>The guest has no such user.</summary>
    User = 1,

    /// <summary>The directory cannot be entered by the user.</summary>
    Directory = 2,

    /// <summary>The program cannot be executed.</summary>
    Program = 3,

    /// <summary>The agent does not know the process.</summary>
    Process = 4,

    /// <summary>The message is not one of the protocol.</summary>
    Protocol = 5,
}

/// <summary>Why a request was not done: body of <see cref="ProcessMessage.Failed"/>.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Reason">The reason, for people.</param>
internal sealed record FailureReport(FailureKind Kind, string Reason)
{
    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter().Number((byte)Kind).Text(Reason).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static FailureReport Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var report = new FailureReport((FailureKind)reader.Number(0, 255), reader.Text() ?? "");
        reader.End();
        return report;
    }
}

/// <summary>What a process has, and how far it is.</summary>
/// <param name="HasInput">Whether it has an input.</param>
/// <param name="HasTerminal">Whether it has a terminal.</param>
/// <param name="IsForeground">Whether a client waits for it.</param>
/// <param name="KeepsAlive">Whether it is an activity of its sandbox while it runs.</param>
/// <param name="OutputBegin">Offset of the oldest output that is kept.</param>
/// <param name="OutputEnd">Offset after the newest output.</param>
/// <param name="InputOffset">Bytes of input that were accepted for it.</param>
internal readonly record struct ProcessFacts(
    bool HasInput, bool HasTerminal, bool IsForeground, bool KeepsAlive, long OutputBegin, long OutputEnd, long InputOffset)
{
    /// <summary>Writes them.</summary>
    public void Write(BodyWriter writer) => writer.Number(HasInput ? 1 : 0).Number(HasTerminal ? 1 : 0).Number(IsForeground ? 1 : 0)
        .Number(KeepsAlive ? 1 : 0).Number(OutputBegin).Number(OutputEnd).Number(InputOffset);

    /// <summary>Reads what <see cref="Write"/> wrote.</summary>
    /// <exception cref="FormatException">It is no such part of a body.</exception>
    public static ProcessFacts Read(ref BodyReader reader)
    {
        var facts = new ProcessFacts(
            reader.Number(0, 1) == 1, reader.Number(0, 1) == 1, reader.Number(0, 1) == 1, reader.Number(0, 1) == 1,
            reader.Number(), reader.Number(), reader.Number());
        return facts is { OutputBegin: >= 0, InputOffset: >= 0 } && facts.OutputEnd >= facts.OutputBegin
            ? facts
            : throw new FormatException("offsets that cannot be");
    }
}

/// <summary>A process that a stream started or attached to: body of <see cref="ProcessMessage.Started"/>.</summary>
/// <param name="Pid">Its pid in the guest.</param>
/// <param name="Facts">What it has.</param>
internal sealed record StartedReport(int Pid, ProcessFacts Facts)
{
    /// <summary>Writes the body.</summary>
    public byte[] Encode()
    {
        var writer = new BodyWriter().Number(Pid);
        Facts.Write(writer);
        return writer.ToArray();
    }

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static StartedReport Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var report = new StartedReport(reader.Number(0, int.MaxValue), ProcessFacts.Read(ref reader));
        reader.End();
        return report;
    }
}

/// <summary>One process that the agent knows: body of <see cref="ProcessMessage.Entry"/>.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Pid">Its pid in the guest, which the guest may have used again after its end.</param>
/// <param name="Tag">The name that the client chose; null for none.</param>
/// <param name="Command">The beginning of its shell text, or its arguments.</param>
/// <param name="StartedAt">Nanoseconds since 1970, by the guest's clock.</param>
/// <param name="Facts">What it has.</param>
/// <param name="End">Its end; null while it runs.</param>
internal sealed record ProcessEntry(
    string Id, int Pid, string? Tag, string Command, long StartedAt, ProcessFacts Facts, EndReport? End)
{
    /// <summary>Most characters of <see cref="Command"/>.</summary>
    public const int MaxCommand = 256;

    /// <summary>Writes the body.</summary>
    public byte[] Encode()
    {
        var writer = new BodyWriter().Text(Id).Number(Pid).Text(Tag).Text(Command).Number(StartedAt);
        Facts.Write(writer);
        writer.Number(End is null ? 0 : 1);
        return End is null ? writer.ToArray() : [.. writer.ToArray(), .. End.Encode()];
    }

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static ProcessEntry Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var entry = new ProcessEntry(
            reader.Text() ?? throw new FormatException("an entry without an id"),
            reader.Number(0, int.MaxValue),
            reader.Text(),
            reader.Text() ?? "",
            reader.Number(),
            ProcessFacts.Read(ref reader),
            End: null);
        return reader.Number(0, 1) == 0 ? entry : entry with { End = EndReport.Decode(reader.Rest) };
    }
}
