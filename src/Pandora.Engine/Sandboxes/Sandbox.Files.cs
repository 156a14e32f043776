using Pandora.Engine.Guests.Files;

namespace Pandora.Engine.Sandboxes;

// Files of a sandbox. The sandbox is busy while its guest is waited for; a client that is waited for keeps it alive by the bytes that move.
public sealed partial class Sandbox
{
    /// <summary>Most requests for files at once, watches among them.</summary>
    public const int MaxFileRequests = 16;

    // Of a list, so that paths of the greatest length do not fill the server's memory. A longer page ends here, and has more.
    private const int MaxListedBytes = 4 * 1024 * 1024;

    // For the answer of a guest that takes no more.
    private static readonly TimeSpan LastWords = TimeSpan.FromSeconds(5);
    private int _fileRequests;

    /// <summary>Shows, lists, deletes, moves or copies files, or makes a directory.</summary>
    /// <exception cref="PandoraException">The request is invalid or was not done, or the sandbox has ended.</exception>
    public Task<FileAnswer> AskFilesAsync(FileSpec spec, CancellationToken cancellationToken)
    {
        var line = spec.Action is FileAction.Show or FileAction.List ? null : AuditFile(spec);
        return OperateOnFilesAsync(line, spec, async (place, stop) =>
        {
            using var taken = place;
            using var lease = Use(isUncounted: true);
            try
            {
                await using var files = await MicroVm.Guest.OpenFilesAsync(spec, stop);
                var answer = await CollectAsync(files, stop);
                lease.HasWorked = true;
                if (line is not null)
                {
                    RecordDone(line);
                }

                return answer;
            }
            catch (PandoraException e) when (IsAnswer(e))
            {
                lease.HasWorked = true;
                throw;
            }
        }, cancellationToken);
    }

    /// <summary>Reads a file, packs a directory or watches one. It waits for the beginning of the guest's answer.</summary>
    /// <exception cref="PandoraException">The request is invalid or was not done, or the sandbox has ended.</exception>
    public Task<SandboxFiles> OpenFilesAsync(FileSpec spec, CancellationToken cancellationToken)
    {
        var line = AuditFile(spec);
        return OperateOnFilesAsync(line, spec, async (place, stop) =>
        {
            IGuestFiles? files = null;
            try
            {
                files = await MicroVm.Guest.OpenFilesAsync(spec, stop);
                var opened = new SandboxFiles(this, files, place, line);
                await opened.BeginAsync(stop);
                return opened;
            }
            catch
            {
                await (files?.DisposeAsync() ?? default);
                place.Dispose();
                throw;
            }
        }, cancellationToken);
    }

    /// <summary>Writes a file, or unpacks an archive. Nothing takes the place of a file before the body's end.</summary>
    /// <param name="spec">What to write.</param>
    /// <param name="body">The file's bytes, or the archive's.</param>
    /// <param name="cancellationToken">Ends the writing.</param>
    /// <exception cref="PandoraException">The request is invalid or was not done, or the sandbox has ended.</exception>
    /// <exception cref="FileBodyException">The body could not be read.</exception>
    public Task<FileAnswer> WriteFilesAsync(FileSpec spec, Stream body, CancellationToken cancellationToken)
    {
        var line = AuditFile(spec);
        line.Bytes = 0;
        return OperateOnFilesAsync(line, spec, async (place, stop) =>
        {
            using var taken = place;
            await using var files = await MicroVm.Guest.OpenFilesAsync(spec, stop);
            using var left = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var answering = CollectAsync(files, left.Token);
            var sending = SendAsync(files, body, line, left.Token);
            try
            {
                if (await Task.WhenAny(answering, sending) == sending)
                {
                    await MustBeSentAsync(sending, answering);
                }

                using var lease = Use(isUncounted: true);
                var answer = await WaitForAnswerAsync(answering, lease);
                RecordDone(line);
                return answer;
            }
            finally
            {
                await left.CancelAsync();
                await files.DisposeAsync();
                await Task.WhenAll(answering, sending).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }, cancellationToken);
    }

    /// <summary>Whether the guest has answered with this error.</summary>
    internal static bool IsAnswer(PandoraException exception) => exception.Error != PandoraError.GuestUnreachable;

    private static async Task<FileAnswer> WaitForAnswerAsync(Task<FileAnswer> answering, Lease lease)
    {
        try
        {
            var answer = await answering;
            lease.HasWorked = true;
            return answer;
        }
        catch (PandoraException e) when (IsAnswer(e))
        {
            lease.HasWorked = true;
            throw;
        }
    }

    // A guest that takes no more has said why, or says it soon: that is the answer, and not that it took no more.
    private async Task MustBeSentAsync(Task sending, Task<FileAnswer> answering)
    {
        try
        {
            await sending;
        }
        catch (PandoraException e) when (e.Error == PandoraError.GuestUnreachable)
        {
            await ((Task)answering).WaitAsync(LastWords, _time, Ending).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (answering.Exception?.InnerException is PandoraException { Error: not PandoraError.GuestUnreachable } answer)
            {
                throw answer;
            }

            throw;
        }
    }

    private static async Task<FileAnswer> CollectAsync(IGuestFiles files, CancellationToken cancellationToken)
    {
        var (found, bytes) = (new List<GuestFile>(), 0L);
        while (await files.ReadAsync(cancellationToken) is { } piece)
        {
            if (piece.File is { } file)
            {
                found.Add(file);
                bytes += file.Path.Length + file.LinkTarget.Length + (file.Attributes?.Sum(a => a.Key.Length + a.Value.Length) ?? 0);
            }

            if (bytes > MaxListedBytes)
            {
                return new FileAnswer(found, new FileOutcome(IsCreated: false, 0, found.Count, 0, HasMore: true));
            }
        }

        return new FileAnswer(found, files.Outcome!);
    }

    private async Task SendAsync(IGuestFiles files, Stream body, AuditLine line, CancellationToken cancellationToken)
    {
        var buffer = new byte[64 * 1024];
        while (await ReadBodyAsync(body, buffer, cancellationToken) is var count && count > 0)
        {
            using (var lease = Use(isUncounted: true))
            {
                await files.WriteAsync(buffer.AsMemory(0, count), cancellationToken);
                lease.HasWorked = true;
            }

            line.Bytes += count;
        }

        await files.EndWriteAsync(cancellationToken);
    }

    private static async Task<int> ReadBodyAsync(Stream body, byte[] buffer, CancellationToken cancellationToken)
    {
        try
        {
            return await body.ReadAsync(buffer, cancellationToken);
        }
        catch (Exception e) when (e is not (PandoraException or OperationCanceledException))
        {
            throw new FileBodyException(e);
        }
    }

    private Task<T> OperateOnFilesAsync<T>(
        AuditLine? line, FileSpec spec, Func<FilePlace, CancellationToken, Task<T>> operate, CancellationToken cancellationToken) =>
        OperateAsync(line, stop =>
        {
            RequestLimits.Check(spec);
            if (IsStalled)
            {
                throw new PandoraException(
                    PandoraError.HostFull,
                    $"sandbox '{Id}' waits for room on the server's disk, and continues when there is room: nothing was done");
            }

            return operate(TakeFilePlace(), stop);
        }, cancellationToken, SandboxOperation.File);

    private AuditLine AuditFile(FileSpec spec)
    {
        var line = Audit(spec.Action switch
        {
            FileAction.Read or FileAction.Pack => AuditOperation.FileRead,
            FileAction.Write or FileAction.Unpack => AuditOperation.FileWrite,
            FileAction.Watch => AuditOperation.FileWatch,
            _ => AuditOperation.FileChange,
        });
        line.Path = RequestLimits.Printable(spec.Path);
        line.Target = spec.Target.Length == 0 ? null : RequestLimits.Printable(spec.Target);
        return line;
    }

    private FilePlace TakeFilePlace()
    {
        if (Interlocked.Increment(ref _fileRequests) > MaxFileRequests)
        {
            Interlocked.Decrement(ref _fileRequests);
            throw new PandoraException(
                PandoraError.TooManyFileRequests,
                $"{MaxFileRequests} requests for files of this sandbox are under way, and no more may be at once");
        }

        return new FilePlace(this);
    }

    /// <summary>The place of a request among those of the sandbox.</summary>
    internal sealed class FilePlace(Sandbox sandbox) : IDisposable
    {
        private int _isOver;

        /// <inheritdoc/>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref _isOver, 1) == 0)
            {
                Interlocked.Decrement(ref sandbox._fileRequests);
            }
        }
    }
}
