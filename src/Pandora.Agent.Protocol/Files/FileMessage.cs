namespace Pandora.Agent.Protocol.Files;

/// <summary>
/// Kinds of messages about files. A stream carries one request, whose first message is <see cref="Request"/>; messages have the form of
/// those about processes, and other numbers. Odd numbers go to the guest; even numbers come from the guest.
/// </summary>
internal enum FileMessage : byte
{
    /// <summary>The request: <see cref="FileRequest"/>.</summary>
    Request = 65,

    /// <summary>Bytes of the file or of the archive that is written.</summary>
    Write = 67,

    /// <summary>All bytes were sent: the file may take its place. Without this message nothing is replaced.</summary>
    EndWrite = 69,

    /// <summary>One file: <see cref="FileEntry"/>.</summary>
    Entry = 66,

    /// <summary>Bytes of the file or of the archive that is read.</summary>
    Read = 68,

    /// <summary>The request was done: <see cref="FileResult"/>. The stream ends.</summary>
    Done = 70,

    /// <summary>The request was not done, or not in whole: <see cref="FileFailure"/>. The stream ends.</summary>
    Failed = 72,

    /// <summary>Something happened below a watched directory: <see cref="FileEvent"/>.</summary>
    Event = 74,
}

/// <summary>What a request asks for, and what answers it before <see cref="FileMessage.Done"/>.</summary>
internal enum FileOperation : byte
{
    /// <summary>Shows a file: one <see cref="FileMessage.Entry"/>.</summary>
    Show = 1,

    /// <summary>Reads a regular file: one <see cref="FileMessage.Entry"/>, then <see cref="FileMessage.Read"/>.</summary>
    Read = 2,

    /// <summary>Writes a regular file, which takes its place when all has come: one <see cref="FileMessage.Entry"/>.</summary>
    Write = 3,

    /// <summary>Deletes a file or a directory. A link is deleted itself.</summary>
    Delete = 4,

    /// <summary>Makes a directory: one <see cref="FileMessage.Entry"/>.</summary>
    MakeDirectory = 5,

    /// <summary>Moves a file or a directory: one <see cref="FileMessage.Entry"/>, which is the target's.</summary>
    Move = 6,

    /// <summary>Copies a file or a directory: one <see cref="FileMessage.Entry"/>, which is the target's.</summary>
    Copy = 7,

    /// <summary>Lists a directory: many <see cref="FileMessage.Entry"/>.</summary>
    List = 8,

    /// <summary>Reads a directory, or one file, as a tar archive: <see cref="FileMessage.Read"/>.</summary>
    Pack = 9,

    /// <summary>Writes the files of a tar archive into a directory.</summary>
    Unpack = 10,

    /// <summary>Watches a directory: <see cref="FileMessage.Event"/>, until the stream is closed.</summary>
    Watch = 11,
}
