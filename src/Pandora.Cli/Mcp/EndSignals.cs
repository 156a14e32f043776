using System.Runtime.InteropServices;

namespace Pandora.Cli.Mcp;

/// <summary>SIGINT, SIGTERM and SIGHUP, by which a host ends a server that it has started.</summary>
internal sealed class EndSignals : IDisposable
{
    private readonly CancellationTokenSource _ended = new();
    private readonly IReadOnlyList<PosixSignalRegistration> _registrations;

    /// <summary>Listens to them.</summary>
    public EndSignals() => _registrations =
    [
        .. new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP }.Select(s => PosixSignalRegistration.Create(s, context =>
        {
            context.Cancel = true;
            _ended.Cancel();
        })),
    ];

    /// <summary>Is cancelled when one has come.</summary>
    public CancellationToken Ended => _ended.Token;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var registration in _registrations)
        {
            registration.Dispose();
        }

        _ended.Dispose();
    }
}
