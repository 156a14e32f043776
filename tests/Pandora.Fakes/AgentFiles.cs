using System.ComponentModel;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Pandora.Agent;
using Pandora.Agent.Files;
using Pandora.Agent.Ports;
using Pandora.Agent.Protocol.Processes;
using Pandora.Agent.Transport;
using Guest = Pandora.Agent.Linux;

namespace Pandora.Fakes;

/// <summary>
/// The agent's real code for files and ports, in this process, on its filesystem and its network: the loop, the channel and the threads. It
/// has no processes: each request for one fails. Its users are those of this machine, and only root can act for others.
/// </summary>
internal static unsafe partial class AgentFiles
{
    /// <summary>The user of this process, for requests that must work without root, too.</summary>
    public static string OwnUser => $"{geteuid()}";

    /// <summary>Starts an agent, which ends when the stream is closed. With <c>PANDORA_TEST_AGENT</c> it is that program.</summary>
    /// <param name="makePorts">Makes what serves requests about ports; null for the guest's own, with this machine's SSH server and a host
    /// key that it does not have.</param>
    /// <returns>The server's end of the channel.</returns>
    public static Stream Connect(Func<EventLoop, GuestPorts>? makePorts = null)
    {
        if (Environment.GetEnvironmentVariable("PANDORA_TEST_AGENT") is { Length: > 0 } program)
        {
            return new AgentProgram(program);
        }

        const int Unix = 1, Bytes = 1, CloseOnExec = 0x80000;
        var ends = stackalloc int[2];
        if (socketpair(Unix, Bytes | CloseOnExec, 0, ends) < 0)
        {
            throw new Win32Exception();
        }

        var own = ends[1];
        Guest.StopWaiting(own);
        new Thread(() => Serve(own, makePorts ?? MakePorts)) { IsBackground = true }.Start();
        return new NetworkStream(new Socket(new SafeSocketHandle(ends[0], ownsHandle: true)), ownsSocket: true);
    }

    private static GuestPorts MakePorts(EventLoop loop) => new(loop, new SshServer(loop, new SshFiles(), AgentSsh.Start));

    private static void Serve(int descriptor, Func<EventLoop, GuestPorts> makePorts)
    {
        using var loop = new EventLoop();
        var files = new FileRequests(loop);
        var ports = makePorts(loop);
        var transport = new ChannelTransport(
            loop, descriptor, descriptor, stream => _ = new NewStream(stream, RefuseProcess, files, ports), loop.Stop);
        loop.Handled = transport.Flush;
        loop.Run();
        files.CancelAll(milliseconds: 5000);
        Guest.Close(descriptor);
    }

    private static void RefuseProcess(AgentStream stream, byte[] begun)
    {
        stream.Write(ProcessMessages.Encode(
            ProcessMessage.Failed, new FailureReport(FailureKind.Guest, "this agent has no processes").Encode()));
        stream.End();
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int socketpair(int family, int type, int protocol, int* ends);

    [LibraryImport("libc")]
    private static partial uint geteuid();
}
