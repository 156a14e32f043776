using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <summary>
/// One at a time builds or removes in a template directory, which servers may share: a lock (flock(2)) that the kernel drops when its
/// holder dies. Readers need none, because a template comes by a rename.
/// </summary>
internal sealed class TemplateLock : IDisposable
{
    /// <summary>The file that is locked, and the one that says who holds it: a locked file cannot be read by those who wait.</summary>
    private const string LockName = ".lock", HolderName = ".lock-holder";

    private const string Somebody = "another process builds or removes a template";
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

    /// <summary>Waits until nobody else builds or removes there, and says for whom it waits.</summary>
    /// <param name="directory">The template directory, which is there.</param>
    /// <param name="work">What others that wait are told of the holder, such as <c>builds template 'x'</c>.</param>
    /// <param name="time">Clock of the waiting.</param>
    /// <param name="report">Takes a line for each holder that is waited for.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public static async Task<TemplateLock> AcquireAsync(
        string directory, string work, TimeProvider time, Action<string> report, CancellationToken cancellationToken)
    {
        string? told = null;
        while (true)
        {
            if (LockFile.TryOpen(Path.Combine(directory, LockName)) is { } file)
            {
                return new TemplateLock(directory, file, $"process {Environment.ProcessId} on {Environment.MachineName} {work}");
            }

            var holder = ReadHolder(directory);
            if (told is null || (holder != told && holder != Somebody))
            {
                report($"{holder} in {directory}: waiting for it");
                told = holder;
            }

            await Task.Delay(Interval, time, cancellationToken);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        File.Delete(Path.Combine(_directory, HolderName));
        // While it is locked: a process that opened it meanwhile sees that it is gone and makes another.
        File.Delete(Path.Combine(_directory, LockName));
        _file.Dispose();
    }

    private static string ReadHolder(string directory)
    {
        try
        {
            return File.ReadAllText(Path.Combine(directory, HolderName)) is { Length: > 0 } holder ? holder : Somebody;
        }
        catch (IOException)
        {
            // It has just come or just gone.
            return Somebody;
        }
    }
}
