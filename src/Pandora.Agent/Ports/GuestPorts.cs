using Pandora.Agent.Files;
using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Ports;

/// <summary>What all requests about ports share: the loop, the limits and one memory for the bytes under way.</summary>
/// <param name="loop">The loop that serves the streams and the connections.</param>
/// <param name="ssh">Starts the guest's SSH server.</param>
internal sealed class GuestPorts(EventLoop loop, SshServer ssh)
{
    /// <summary>Most lists that are made at once, each on a thread of its own.</summary>
    public const int MostLists = 4;

    private const int StackSize = 256 * 1024;
    private int _lists;

    /// <summary>The loop that serves the streams and the connections.</summary>
    public EventLoop Loop => loop;

    /// <summary>Starts the guest's SSH server.</summary>
    public SshServer Ssh => ssh;

    /// <summary>Milliseconds that a program has to accept a connection.</summary>
    public int ConnectMilliseconds { get; init; } = PortMessages.ConnectMilliseconds;

    /// <summary>Makes a list: messages for the server. It runs on a thread of its own.</summary>
    public Func<byte[]> MakeList { get; init; } = PortList.Make;

    /// <summary>Memory for one message, which all connections use in turn.</summary>
    public byte[] Scratch { get; } = new byte[ProcessMessages.HeaderSize + PortMessages.MaxBody];

    /// <summary>Number of connections that are open or begin.</summary>
    public int Connections { get; private set; }

    /// <summary>Counts a connection more. An SSH server that has not ended counts like a connection.</summary>
    /// <exception cref="PortFailedException">There are as many as may be.</exception>
    public void Enter()
    {
        if (Connections + ssh.Lingering >= PortMessages.MaxConnections)
        {
            throw new PortFailedException(
                PortFailureKind.TooMany, $"the guest serves {PortMessages.MaxConnections} connections at once");
        }

        Connections++;
    }

    /// <summary>Counts a connection less.</summary>
    public void Leave() => Connections--;

    /// <summary>Makes a list. Nothing of it may run on the loop: it looks at every process of the guest.</summary>
    /// <param name="done">Called on the loop with the answer.</param>
    /// <exception cref="PortFailedException">As many are made as may be, or the guest has no memory for one more.</exception>
    public void List(Action<byte[]> done)
    {
        if (_lists >= MostLists)
        {
            throw new PortFailedException(PortFailureKind.TooMany, $"the guest makes {MostLists} lists of ports at once");
        }

        _lists++;
        try
        {
            new Thread(() => MakeAndPost(done), StackSize) { IsBackground = true }.Start();
        }
        catch (OutOfMemoryException)
        {
            _lists--;
            throw new PortFailedException(PortFailureKind.TooMany, "the guest has no memory for a list of ports");
        }
    }

    private void MakeAndPost(Action<byte[]> done)
    {
        Identity.LeavePrecedence();
        byte[] answer;
        try
        {
            answer = MakeList();
        }
        catch (Exception e)
        {
            // One request must not end the agent, which serves all others.
            answer = PortMessages.Encode(
                PortMessage.Failed, new PortFailure(PortFailureKind.Guest, $"the agent failed: {e.GetType().Name}").Encode());
        }

        loop.Post(() =>
        {
            _lists--;
            done(answer);
        });
    }
}
