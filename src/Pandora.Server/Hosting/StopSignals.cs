using System.Runtime.InteropServices;
using Pandora.Engine;

namespace Pandora.Server.Hosting;

/// <summary>
/// Stops the server on a signal, and decides by the signal whether sandboxes end. Ctrl-C, a closed terminal and <c>./pandora down</c>
/// (SIGUSR2) end them; <c>./pandora restart</c> (SIGUSR1) keeps them; for SIGTERM, which service managers send, <c>PANDORA_ON_STOP</c>
/// decides.
/// </summary>
public sealed class StopSignals(IHostApplicationLifetime lifetime) : IHostLifetime, IDisposable
{
    // Numbers of Linux: .NET has no names for them.
    private const PosixSignal User1 = (PosixSignal)10, User2 = (PosixSignal)12;
    private readonly List<PosixSignalRegistration> _registrations = [];
    private PosixSignal? _received;

    /// <summary>Whether the server stops without ending the sandboxes. False without a signal, as after a failure.</summary>
    public bool ShouldDetach(OnStop setting) => _received switch
    {
        User1 => true,
        PosixSignal.SIGTERM => setting == OnStop.Keep,
        _ => false,
    };

    /// <inheritdoc/>
    public Task WaitForStartAsync(CancellationToken cancellationToken)
    {
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGQUIT, PosixSignal.SIGHUP, PosixSignal.SIGTERM, User1, User2 })
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                // Only the first signal counts: a Ctrl-C during a restart must not end the sandboxes.
                _received ??= context.Signal;
                lifetime.StopApplication();
            }));
        }

        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public void Dispose() => _registrations.ForEach(r => r.Dispose());
}
