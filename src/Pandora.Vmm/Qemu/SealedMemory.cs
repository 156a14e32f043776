using Microsoft.Win32.SafeHandles;
using Pandora.Linux;

namespace Pandora.Vmm.Qemu;

/// <summary>
/// Snapshots' memory where no VMM can write to it: QEMU opens the file behind a guest's memory for reading and writing even when it maps it
/// privately, and what one wrote into it would be seen by all guests that have not yet copied that page. So they map a copy in memory that
/// is sealed (memfd_create(2), fcntl(2): F_SEAL_WRITE), one for each snapshot in use; what a running guest maps outlives this.
/// </summary>
internal sealed class SealedMemory : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, (string Look, SafeFileHandle Copy)> _copies = [];

    /// <summary>Where the copy of a snapshot's memory can be opened while this process lives and the snapshot's file is as it is.</summary>
    /// <exception cref="VmmException">It could not be copied.</exception>
    public string PathOf(string memoryPath)
    {
        lock (_lock)
        {
            foreach (var gone in _copies.Where(c => !File.Exists(c.Key)).ToList())
            {
                gone.Value.Copy.Dispose();
                _copies.Remove(gone.Key);
            }

            var file = new FileInfo(memoryPath);
            var look = file.Exists ? $"{file.Length}/{file.LastWriteTimeUtc.Ticks}" : throw new VmmException($"there is no {memoryPath}");
            if (!_copies.TryGetValue(memoryPath, out var known) || known.Look != look)
            {
                known.Copy?.Dispose();
                _copies.Remove(memoryPath);
                _copies[memoryPath] = known = (look, Copy(memoryPath));
            }

            return $"/proc/{Environment.ProcessId}/fd/{known.Copy.DangerousGetHandle()}";
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            foreach (var (_, copy) in _copies.Values)
            {
                copy.Dispose();
            }

            _copies.Clear();
        }
    }

    private static SafeFileHandle Copy(string path)
    {
        SafeFileHandle? copy = null;
        try
        {
            copy = Libc.CreateMemoryFile("pandora-snapshot");
            SparseFile.Copy(path, copy);
            Libc.Seal(copy);
            return copy;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            copy?.Dispose();
            throw new VmmException($"the snapshot's memory could not be copied: {e.Message}", e);
        }
    }
}
