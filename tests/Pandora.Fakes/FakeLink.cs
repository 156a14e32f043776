using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;
using Pandora.Engine.Guests.Files;

namespace Pandora.Fakes;

/// <summary>One server's connection to a fake guest, which outlives it.</summary>
internal sealed class FakeLink(FakeGuest guest) : IGuest
{
    public FakeGuest Guest => guest;

    /// <summary>Whether the server has closed the connection.</summary>
    public bool IsClosed { get; private set; }

    /// <summary>Whether the server was killed: it learns nothing more, and can do nothing.</summary>
    public bool IsSilent { get; private set; }

    /// <summary>Whether nothing reaches the guest.</summary>
    public bool IsDead => IsClosed || IsSilent;

    public ExecWay Way => ExecWay.Agent;

    /// <summary>The error of a server that has lost its guest.</summary>
    public static PandoraException Lost() => new(PandoraError.GuestUnreachable, "the guest's agent cannot be reached any more");

    /// <summary>Cuts the connection, as when the server is killed.</summary>
    public void Silence() => IsSilent = true;

    /// <summary>Closes the connection.</summary>
    public void Close()
    {
        IsClosed = true;
        guest.Runs.ToList().ForEach(r => r.Wake());
    }

    public Task<IGuestProcess> StartAsync(ProcessSpec spec, CancellationToken cancellationToken) =>
        AskAsync(() => guest.Start(spec, this), cancellationToken);

    public Task<IGuestProcess> AttachAsync(string id, ReadFrom from, CancellationToken cancellationToken) =>
        AskAsync<IGuestProcess>(() => new FakeReader(this, guest.RunOf(id), from), cancellationToken);

    public Task<ProcessInfo> GetAsync(string id, CancellationToken cancellationToken) =>
        AskAsync(() => guest.RunOf(id).Info, cancellationToken);

    public Task<IReadOnlyList<ProcessInfo>> ListAsync(CancellationToken cancellationToken) =>
        AskAsync<IReadOnlyList<ProcessInfo>>(() => [.. guest.Runs.Select(r => r.Info)], cancellationToken);

    public async Task<IGuestFiles> OpenFilesAsync(FileSpec spec, CancellationToken cancellationToken)
    {
        var agent = await AskAsync(
            () => new AgentGuest(
                guest.Files ?? throw new PandoraException(PandoraError.FilesUnsupported, "the guest's agent knows no files"),
                ExecWay.Agent, guest.Time),
            cancellationToken);
        return await agent.OpenFilesAsync(spec, cancellationToken);
    }

    public Task QuiesceAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public ValueTask DisposeAsync()
    {
        Close();
        return ValueTask.CompletedTask;
    }

    private async Task<T> AskAsync<T>(Func<T> answer, CancellationToken cancellationToken)
    {
        await guest.Answers.WaitAsync(cancellationToken);
        if (IsSilent)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellationToken);
        }

        return IsClosed ? throw Lost() : answer();
    }
}
