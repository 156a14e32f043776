namespace Pandora.Engine.Guests.Files;

/// <summary>A request for files that a guest is working on. Disposing of it before its end cancels the work.</summary>
public interface IGuestFiles : IAsyncDisposable
{
    /// <summary>How the request was done; null before <see cref="ReadAsync"/> has returned null.</summary>
    FileOutcome? Outcome { get; }

    /// <summary>Reads what comes next. One caller at a time may read; bytes are valid until the next call.</summary>
    /// <returns>Null at the end, when <see cref="Outcome"/> is set.</returns>
    /// <exception cref="PandoraException">The request was not done, or the guest does not answer.</exception>
    ValueTask<FilePiece?> ReadAsync(CancellationToken cancellationToken);

    /// <summary>Sends bytes of the file or the archive, and waits while the guest takes none. Another caller reads meanwhile: it learns
    /// of a failure.</summary>
    /// <exception cref="PandoraException">The guest takes no more, or does not answer.</exception>
    ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken);

    /// <summary>Says that all bytes were sent: the file may take its place.</summary>
    /// <exception cref="PandoraException">The guest takes no more, or does not answer.</exception>
    ValueTask EndWriteAsync(CancellationToken cancellationToken);
}

/// <summary>A part of an answer: exactly one of its members is given.</summary>
/// <param name="File">A file.</param>
/// <param name="Bytes">Bytes of a file or an archive; at least one.</param>
/// <param name="Change">A change below a watched directory.</param>
public readonly record struct FilePiece(
    GuestFile? File = null, ReadOnlyMemory<byte> Bytes = default, GuestFileChange? Change = null);
