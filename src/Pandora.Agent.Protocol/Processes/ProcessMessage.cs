using System.Buffers.Binary;

namespace Pandora.Agent.Protocol.Processes;

/// <summary>
/// Kinds of messages about one process, on a stream of its own. Odd numbers go to the guest; even numbers come from the guest. The first
/// message of a stream is <see cref="Start"/>, <see cref="Attach"/> or <see cref="List"/>.
/// </summary>
internal enum ProcessMessage : byte
{
    /// <summary>Starts a process: <see cref="StartRequest"/>. The stream then belongs to it.</summary>
    Start = 1,

    /// <summary>Continues with a process that another stream started: <see cref="AttachRequest"/>.</summary>
    Attach = 3,

    /// <summary>Asks for all processes, with an empty body, or for the one whose id is the body.</summary>
    List = 5,

    /// <summary>Bytes for standard input.</summary>
    Input = 7,

    /// <summary>Standard input ends here.</summary>
    EndInput = 9,

    /// <summary>Sends a signal to the process and its group: its number in 4 bytes.</summary>
    Signal = 11,

    /// <summary>Sets the size of the terminal: columns and rows, 2 bytes each.</summary>
    Resize = 13,

    /// <summary>Kills the process and all that it started, and asks what remains.</summary>
    Kill = 15,

    /// <summary>The server has the end, and asks for nothing more: the agent may forget the process.</summary>
    Forget = 17,

    /// <summary>Answers <see cref="Start"/> and <see cref="Attach"/>: <see cref="StartedReport"/>.</summary>
    Started = 2,

    /// <summary>Bytes of an output: the offset of the first in 8 bytes, 1 for standard output or 2 for standard error, the bytes.</summary>
    Output = 4,

    /// <summary>Bytes of this stream's <see cref="Input"/> that wait for the process no more: their number so far, in 8 bytes.</summary>
    Taken = 6,

    /// <summary>The process ended: <see cref="EndReport"/>. No output follows.</summary>
    Ended = 8,

    /// <summary>Answers <see cref="Kill"/>: <see cref="KillReport"/> in 1 byte.</summary>
    Killed = 10,

    /// <summary>Answers <see cref="List"/>: one <see cref="ProcessEntry"/>. The stream ends after the last.</summary>
    Entry = 12,

    /// <summary>The request could not be done: <see cref="FailureReport"/>. The stream ends.</summary>
    Failed = 14,

    /// <summary>
    /// Answers each <see cref="EndInput"/>, <see cref="Signal"/> and <see cref="Resize"/>, in their order, with 1 in 1 byte when it was
    /// done, and 0 when the process has ended. After <see cref="Ended"/> no more come.
    /// </summary>
    Done = 16,

    /// <summary>The process does not read its input any more: what was sent, or is sent from now on, is lost. The body is empty.</summary>
    InputLost = 18,
}

/// <summary>What the agent found after it had killed a process with all that it started.</summary>
[Flags]
internal enum KillReport : byte
{
    /// <summary>Nothing could be found out.</summary>
    None = 0,

    /// <summary>The process itself has ended.</summary>
    HasEnded = 1,

    /// <summary>No process is left in its cgroup.</summary>
    IsGroupEmpty = 2,

    /// <summary>No process outside of its cgroup bears its mark.</summary>
    HasNoStrays = 4,

    /// <summary>Nothing is left.</summary>
    All = HasEnded | IsGroupEmpty | HasNoStrays,

    /// <summary>The guest has no cgroup v2, so that only the mark was looked for.</summary>
    HasNoGroup = 8,
}

/// <summary>Sizes of messages on a stream. A message is the length of its body in 4 bytes, its kind in 1, and the body.</summary>
internal static class ProcessMessages
{
    /// <summary>Bytes before a body.</summary>
    public const int HeaderSize = 5;

    /// <summary>Most bytes of a body to the guest: a start with the longest code and environment.</summary>
    public const int MaxRequest = 4 * 1024 * 1024;

    /// <summary>Most bytes of a body from the guest, and of one <see cref="ProcessMessage.Input"/>.</summary>
    public const int MaxBody = 64 * 1024;

    /// <summary>
    /// Most bytes of <see cref="ProcessMessage.Input"/> without <see cref="ProcessMessage.Taken"/>. They wait for the process in the agent,
    /// so that what follows them on the stream arrives.
    /// </summary>
    public const int InputWindow = 64 * 1024;

    /// <summary>Reason of a closed stream that says the same as <see cref="ProcessMessage.Forget"/>.</summary>
    public const string ForgetReason = "forget";

    /// <summary>Bytes of an <see cref="ProcessMessage.Output"/> before its bytes of output.</summary>
    public const int OutputPrefix = 9;

    /// <summary>Writes the bytes before a body.</summary>
    public static void WriteHeader(Span<byte> target, ProcessMessage kind, int length)
    {
        BinaryPrimitives.WriteInt32LittleEndian(target, length);
        target[4] = (byte)kind;
    }

    /// <summary>Writes a whole message.</summary>
    public static byte[] Encode(ProcessMessage kind, ReadOnlySpan<byte> body)
    {
        var message = new byte[HeaderSize + body.Length];
        WriteHeader(message, kind, body.Length);
        body.CopyTo(message.AsSpan(HeaderSize));
        return message;
    }
}
