using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <summary>
/// The lock of a template directory, which servers may share: one process at a time builds or removes templates there. The kernel releases
/// the lock (flock(2)) when its holder dies. Readers need no lock, because a template appears by a rename.
/// </summary>
internal sealed class TemplateLock : IDisposable
{
    /// <summary>The file that is locked, and the file that names the holder, because waiting processes cannot read a locked file.</summary>
    private const string LockName = ".lock", HolderName = ".lock-holder";

    private const string UnknownHolder = "another process builds or removes a template";
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);

    private readonly string _directory;
    private readonly FileStream _file;

    private TemplateLock(string directory, FileStream file, string holder)
    {
        (_directory, _file) = (directory, file);
        try
        {
            File.WriteAllText(Path.Combine(directory, HolderName), holder);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Acquires the lock. While it waits, it reports the holder.</summary>
    /// <param name="directory">The template directory, which must exist.</param>
    /// <param name="work">What this process does, for the processes that wait for it, such as <c>builds template 'x'</c>.</param>
    /// <param name="time">Clock of the wait.</param>
    /// <param name="report">Receives one line for each holder that this waits for.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public static async Task<TemplateLock> AcquireAsync(
        string directory, string work, TimeProvider time, Action<string> report, CancellationToken cancellationToken)
    {
        string? reported = null;
        while (true)
        {
            if (LockFile.TryOpen(Path.Combine(directory, LockName)) is { } file)
            {
                return new TemplateLock(directory, file, $"process {Environment.ProcessId} on {Environment.MachineName} {work}");
            }

            var holder = ReadHolder(directory);
            if (reported is null || (holder != reported && holder != UnknownHolder))
            {
                report($"{holder} in {directory}: waiting for it");
                reported = holder;
            }

            await Task.Delay(Interval, time, cancellationToken);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        File.Delete(Path.Combine(_directory, HolderName));
        // Deleted while it is locked: a process that has opened it meanwhile finds that the name is gone, and makes a new file.
        File.Delete(Path.Combine(_directory, LockName));
        _file.Dispose();
    }

    private static string ReadHolder(string directory)
    {
        try
        {
            return File.ReadAllText(Path.Combine(directory, HolderName)) is { Length: > 0 } holder ? holder : UnknownHolder;
        }
        catch (IOException)
        {
            // The holder has just acquired or released the lock.
            return UnknownHolder;
        }
    }
}
