namespace Pandora.Agent.Protocol.Processes;

/// <summary>What becomes of a process's output when nobody reads it fast enough.</summary>
internal enum OutputPolicy : byte
{
    /// <summary>The process never waits. What no longer fits is dropped, the oldest first.</summary>
    Keep = 0,

    /// <summary>
    /// The process waits for its fastest reader, as at a pipe; what that has read is not kept. Without a reader it waits when all that is
    /// kept is unread.
    /// </summary>
    Wait = 1,

    /// <summary>
    /// As <see cref="Wait"/>, and what was read is kept as long as there is room: a reader whose connection broke begins again there.
    /// </summary>
    WaitAndKeep = 2,

    /// <summary>As <see cref="WaitAndKeep"/> while it has a reader, and as <see cref="Keep"/> without one.</summary>
    WaitWhileRead = 3,
}

/// <summary>Body of <see cref="ProcessMessage.Start"/>.</summary>
internal sealed record StartRequest
{
    /// <summary>Most characters of an id and of a tag.</summary>
    public const int MaxNameLength = 256;

    /// <summary>Id of the process, chosen by the server. The agent refuses one that it knows.</summary>
    public required string Id { get; init; }

    /// <summary>A name that the client chose; null for none.</summary>
    public string? Tag { get; init; }

    /// <summary>Shell text for <c>bash -c</c>; null when <see cref="Arguments"/> are given.</summary>
    public string? Code { get; init; }

    /// <summary>The program, found by the PATH of its environment, and its arguments.</summary>
    public IReadOnlyList<string> Arguments { get; init; } = [];

    /// <summary>Variables in addition to the usual ones, as names and values by turns.</summary>
    public IReadOnlyList<string> Environment { get; init; } = [];

    /// <summary>Directory to start in; null for the user's home, or <c>/</c> when there is none.</summary>
    public string? Directory { get; init; }

    /// <summary>Name or number of the user; null for root.</summary>
    public string? User { get; init; }

    /// <summary>Whether standard input is a pipe; else it is empty.</summary>
    public bool HasInput { get; init; }

    /// <summary>Whether standard error goes where standard output goes.</summary>
    public bool IsMerged { get; init; }

    /// <summary>Columns of the terminal; 0 for none.</summary>
    public ushort Columns { get; init; }

    /// <summary>Rows of the terminal; 0 for none.</summary>
    public ushort Rows { get; init; }

    /// <summary>Milliseconds after which the process is killed with all that it started; 0 for no limit.</summary>
    public long TimeLimit { get; init; }

    /// <summary>What becomes of output that is not read.</summary>
    public OutputPolicy Policy { get; init; }

    /// <summary>Whether a client waits for the process: then a server that adopts the guest kills it, unless a client attaches.</summary>
    public bool IsForeground { get; init; }

    /// <summary>Whether the process is an activity of its sandbox while it runs.</summary>
    public bool KeepsAlive { get; init; }

    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter()
        .Text(Id).Text(Tag).Text(Code).Texts(Arguments).Texts(Environment).Text(Directory).Text(User)
        .Number(HasInput ? 1 : 0).Number(IsMerged ? 1 : 0).Number(Columns).Number(Rows).Number(TimeLimit).Number((byte)Policy)
        .Number(IsForeground ? 1 : 0).Number(KeepsAlive ? 1 : 0).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static StartRequest Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var request = new StartRequest
        {
            Id = reader.Text() ?? throw new FormatException("a start without an id"),
            Tag = reader.Text(),
            Code = reader.Text(),
            Arguments = reader.Texts(),
            Environment = reader.Texts(),
            Directory = reader.Text(),
            User = reader.Text(),
            HasInput = reader.Number(0, 1) == 1,
            IsMerged = reader.Number(0, 1) == 1,
            Columns = (ushort)reader.Number(0, ushort.MaxValue),
            Rows = (ushort)reader.Number(0, ushort.MaxValue),
            TimeLimit = Math.Max(0, reader.Number()),
            Policy = (OutputPolicy)reader.Number(0, 3),
            IsForeground = reader.Number(0, 1) == 1,
            KeepsAlive = reader.Number(0, 1) == 1,
        };
        reader.End();
        return request.Id.Length is > 0 and <= MaxNameLength && request.Environment.Count % 2 == 0
            ? request
            : throw new FormatException("a start with a wrong id or environment");
    }
}

/// <summary>Body of <see cref="ProcessMessage.Attach"/>.</summary>
/// <param name="Id">Id of the process.</param>
/// <param name="Offset">First offset of the output to be sent; <see cref="FromNow"/> or <see cref="NoOutput"/>.</param>
internal sealed record AttachRequest(string Id, long Offset)
{
    /// <summary>Offset for what comes from now on.</summary>
    public const long FromNow = -1;

    /// <summary>Offset for a stream that reads no output, so that the process does not wait for it.</summary>
    public const long NoOutput = -2;

    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter().Text(Id).Number(Offset).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static AttachRequest Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var request = new AttachRequest(reader.Text() ?? throw new FormatException("an attach without an id"), reader.Number());
        reader.End();
        return request;
    }
}
