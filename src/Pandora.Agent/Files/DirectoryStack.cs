using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>
/// Directories, each in the one before. Few of them are open, however deep they are: the others are opened again by "..", which must lead
/// to the directory that it was.
/// </summary>
internal sealed class DirectoryStack : IDisposable
{
    private const int MostOpen = 64;
    private readonly List<(OpenFile? File, FileStatus Status)> _directories = [];

    /// <summary>Descriptor of the last one.</summary>
    public int Top => _directories[^1].File!.Descriptor;

    /// <summary>Adds a directory, which is closed with this.</summary>
    /// <exception cref="FileFailedException">What it is could not be read.</exception>
    public void Push(OpenFile directory, ReadOnlySpan<byte> path)
    {
        _directories.Add((directory, default));
        FileFailedException.Check(FileCalls.Status(directory.Descriptor, out var status), path);
        _directories[^1] = (directory, status);
        if (_directories.Count > MostOpen)
        {
            var (file, known) = _directories[^(MostOpen + 1)];
            file?.Dispose();
            _directories[^(MostOpen + 1)] = (null, known);
        }
    }

    /// <summary>Takes the last one, which is the caller's to close then.</summary>
    /// <exception cref="FileFailedException">It was moved meanwhile.</exception>
    public OpenFile Pop(ReadOnlySpan<byte> path)
    {
        // Before its mode is set, which may forbid to go up.
        if (_directories.Count > 1 && _directories[^2] is { File: null, Status: var known })
        {
            var above = OpenFile.At(Top, ".."u8, FileCalls.PathOnly | FileCalls.OnlyDirectory | FileCalls.NoLink, path);
            _directories[^2] = (above, known);
            FileFailedException.Check(FileCalls.Status(above.Descriptor, out var status), path);
            if (!status.IsSame(known))
            {
                throw new FileFailedException(FileFailureKind.Guest, $"{FilePath.Show(path)} was moved meanwhile");
            }
        }

        var last = _directories[^1].File!;
        _directories.RemoveAt(_directories.Count - 1);
        return last;
    }

    public void Dispose() => _directories.ForEach(d => d.File?.Dispose());
}
