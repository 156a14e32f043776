using Microsoft.Win32.SafeHandles;
using Pandora.Linux;

namespace Pandora.Vmm.Qemu;

/// <summary>
/// Keeps the memory of snapshots where no VMM can write to it. QEMU opens the file of a guest's memory for reading and writing even when it
/// maps the file privately. If one QEMU wrote to the file, all guests that have not yet copied that page would see the change. So they map
/// a sealed copy in memory (memfd_create(2), fcntl(2): F_SEAL_WRITE), one for each snapshot in use. The mapping of a running guest stays
/// valid after the copy is disposed. There may be many snapshots, so a copy that was not used for some minutes is disposed for another one.
/// </summary>
/// <param name="time">The clock of the minutes.</param>
internal sealed class SealedMemory(TimeProvider time) : IDisposable
{
    /// <summary>Longer than a VMM takes to open its files.</summary>
    public static readonly TimeSpan LongestUnused = TimeSpan.FromMinutes(10);

    private readonly Lock _lock = new();
    private readonly Dictionary<string, (string Fingerprint, SafeFileHandle Copy, long UsedAt)> _copies = [];

    /// <summary>
    /// Returns a path at which the copy of a snapshot's memory can be opened, while this process runs and the snapshot's file is unchanged.
    /// </summary>
    /// <exception cref="VmmException">The memory could not be copied.</exception>
    public string PathOf(string memoryPath)
    {
        lock (_lock)
        {
            var now = time.GetTimestamp();
            foreach (var gone in _copies.Where(c => !File.Exists(c.Key) || IsUnused(c.Key, c.Value.UsedAt)).ToList())
            {
                gone.Value.Copy.Dispose();
                _copies.Remove(gone.Key);
            }

            var file = new FileInfo(memoryPath);
            var fingerprint = file.Exists
                ? $"{file.Length}/{file.LastWriteTimeUtc.Ticks}"
                : throw new VmmException($"there is no {memoryPath}");
            if (!_copies.TryGetValue(memoryPath, out var known) || known.Fingerprint != fingerprint)
            {
                known.Copy?.Dispose();
                _copies.Remove(memoryPath);
                _copies[memoryPath] = known = (fingerprint, Copy(memoryPath), now);
            }

            _copies[memoryPath] = known with { UsedAt = now };
            return $"/proc/{Environment.ProcessId}/fd/{known.Copy.DangerousGetHandle()}";

            bool IsUnused(string path, long usedAt) => path != memoryPath && time.GetElapsedTime(usedAt, now) >= LongestUnused;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            foreach (var (_, copy, _) in _copies.Values)
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
