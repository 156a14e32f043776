using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>A descriptor that is closed with its owner.</summary>
internal sealed class OpenFile(int descriptor) : IDisposable
{
    private int _descriptor = descriptor;

    /// <summary>The descriptor; -1 when it was closed.</summary>
    public int Descriptor => _descriptor;

    /// <summary>Opens a file.</summary>
    /// <exception cref="FileFailedException">It could not be opened.</exception>
    public static OpenFile At(int directory, ReadOnlySpan<byte> name, int flags, ReadOnlySpan<byte> path = default) =>
        new(FileFailedException.Check(FileCalls.Open(directory, name, flags), path.IsEmpty ? name : path));

    /// <summary>
    /// Opens a regular file for reading. It is looked at before it is opened: to open a device, or a FIFO, has effects.
    /// </summary>
    /// <param name="directory">Descriptor of the directory.</param>
    /// <param name="name">Name in it.</param>
    /// <param name="flags">Whether a link is followed: <see cref="FileCalls.NoLink"/> or 0.</param>
    /// <param name="path">The path for messages.</param>
    /// <param name="status">What is known of the file.</param>
    /// <exception cref="FileFailedException">It is no regular file, or could not be opened.</exception>
    public static OpenFile Regular(int directory, ReadOnlySpan<byte> name, int flags, ReadOnlySpan<byte> path, out FileStatus status)
    {
        using var found = At(directory, name, FileCalls.PathOnly | flags, path);
        FileFailedException.Check(FileCalls.Status(found.Descriptor, out status), path);
        if (status.Kind != FileKind.File)
        {
            FileFailedException.ThrowKind(path, $"is {NameOf(status.Kind)}");
        }

        var opened = FileCalls.Reopen(found.Descriptor, FileCalls.NonBlocking | FileCalls.NoTerminal);
        return new OpenFile(FileFailedException.Check(opened, path));
    }

    /// <summary>
    /// Opens, as a path, a link or another file that was just made. A program of the guest may have put one of another's in its place
    /// meanwhile, whose owner and mode must stay.
    /// </summary>
    /// <exception cref="FileFailedException">It is not the one that was made.</exception>
    public static OpenFile Made(int directory, ReadOnlySpan<byte> name, FileKind kind, ReadOnlySpan<byte> path)
    {
        var file = At(directory, name, FileCalls.PathOnly | FileCalls.NoLink, path);
        try
        {
            FileFailedException.Check(FileCalls.Status(file.Descriptor, out var status), path);
            return status.Kind == kind && status.Links == 1 && status.User == Identity.Current
                ? file
                : throw new FileFailedException(FileFailureKind.Guest, $"{FilePath.Show(path)} was replaced while it was made");
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>A kind in words.</summary>
    public static string NameOf(FileKind kind) => kind switch
    {
        FileKind.File => "a regular file",
        FileKind.Directory => "a directory",
        FileKind.Link => "a link",
        FileKind.Fifo => "a FIFO",
        FileKind.Socket => "a socket",
        FileKind.CharacterDevice => "a character device",
        FileKind.BlockDevice => "a block device",
        _ => "no regular file",
    };

    public void Dispose()
    {
        if (_descriptor >= 0)
        {
            Linux.Close(_descriptor);
            _descriptor = -1;
        }
    }
}
