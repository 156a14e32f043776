using Pandora.Engine.Guests.Files;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// A request for files that a client reads: a file, an archive or a watch. Disposing of it before its end cancels it. What is read is an
/// activity of the sandbox; a watch is none.
/// </summary>
public sealed class SandboxFiles : IAsyncDisposable
{
    private readonly Sandbox _sandbox;
    private readonly IGuestFiles _files;
    private readonly Sandbox.FilePlace _place;
    private readonly AuditLine _line;
    private readonly bool _isWatch;
    private FilePiece? _first;
    private Exception? _failure;
    private long _bytes;
    private bool _isOver, _isComplete;
    private int _isDisposed;

    internal SandboxFiles(Sandbox sandbox, IGuestFiles files, Sandbox.FilePlace place, AuditLine line) =>
        (_sandbox, _files, _place, _line, _isWatch) = (sandbox, files, place, line, line.Operation == AuditOperation.FileWatch);

    /// <summary>The file that is read; null for an archive and a watch.</summary>
    public GuestFile? File { get; private set; }

    /// <summary>How the request was done; null before its end.</summary>
    public FileOutcome? Outcome => _files.Outcome;

    /// <summary>Reads the next part, which is valid until the next call. One caller at a time may read.</summary>
    /// <returns>Null at the end.</returns>
    /// <exception cref="PandoraException">The guest failed or does not answer, the sandbox has ended, or the server stops.</exception>
    public async ValueTask<FilePiece?> ReadAsync(CancellationToken cancellationToken)
    {
        if (_first is { } first)
        {
            _first = null;
            _bytes += first.Bytes.Length;
            return first;
        }

        if (_isOver)
        {
            return null;
        }

        using var stop = _sandbox.StopOf(cancellationToken);
        try
        {
            var piece = await NextAsync(stop.Token);
            _bytes += piece?.Bytes.Length ?? 0;
            return piece;
        }
        catch (Exception e)
        {
            _failure = await _sandbox.ReasonOfAsync(e, cancellationToken) ?? e;
            throw _failure;
        }
    }

    /// <summary>Records that the client has all that it wants, although the file may go on.</summary>
    public void Complete() => _isComplete = true;

    /// <summary>Records that the front end refuses the client after all, before it has read anything.</summary>
    public void Refuse(PandoraException refusal) => _failure = refusal;

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) == 1)
        {
            return;
        }

        await _files.DisposeAsync();
        _place.Dispose();
        _line.Bytes = _isWatch ? null : _bytes;
        if (_isWatch)
        {
            // A client may leave a watch at any time: that is no failure.
            _sandbox.RecordRead(_line, _failure, end: null);
            return;
        }

        _sandbox.RecordFiles(_line, _failure ?? (_isOver || _isComplete ? null : new OperationCanceledException()));
    }

    /// <summary>Waits for the first part, so that a failure can still be an answer.</summary>
    internal async Task BeginAsync(CancellationToken cancellationToken)
    {
        var first = await NextAsync(cancellationToken);
        if (first is { File: { } file })
        {
            File = file;
        }
        else
        {
            _first = first;
        }
    }

    private async Task<FilePiece?> NextAsync(CancellationToken cancellationToken)
    {
        // The lease of a watch would keep its sandbox alive.
        using var lease = _isWatch ? null : _sandbox.Use(isUncounted: true);
        try
        {
            var piece = await _files.ReadAsync(cancellationToken);
            _isOver = piece is null;
            if (lease is not null)
            {
                lease.HasWorked = true;
            }

            return piece;
        }
        catch (PandoraException e) when (lease is not null && Sandbox.IsAnswer(e))
        {
            lease.HasWorked = true;
            throw;
        }
    }
}
