using System.Net.Sockets;
using Pandora.Engine.Recovery;

namespace Pandora.Tests.Recovery;

/// <summary>The resources that the audit finds in directories.</summary>
public sealed class HostAuditTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
    private readonly List<Socket> _sockets = [];

    public void Dispose()
    {
        _sockets.ForEach(s => s.Dispose());
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void The_owner_of_a_jail_and_its_sockets_is_the_microVM()
    {
        var (living, lost) = (MakeJail("living"), MakeJail("lost"));
        var found = HostAudit.Chroots(_directory, id => id == "living" ? "sandbox living" : null).ToHashSet();
        Assert.Equal(
            [
                new(AuditedKind.Chroot, living, "sandbox living"),
                new(AuditedKind.Socket, Path.Combine(living, "root/run/firecracker.sock"), "sandbox living"),
                new(AuditedKind.Socket, Path.Combine(living, "root/run/agent.sock"), "sandbox living"),
                new(AuditedKind.Chroot, lost, null),
            ],
            found);
    }

    // The VMM owns the root of its jail, so it can replace the files in it.
    [Fact]
    public void A_file_or_link_in_the_place_of_a_socket_is_not_listed_as_a_socket()
    {
        var (other, linked, moved) = (MakeJail("other"), MakeJail("linked"), MakeJail("moved"));
        File.Delete(Path.Combine(linked, "root/run/agent.sock"));
        File.CreateSymbolicLink(Path.Combine(linked, "root/run/agent.sock"), Path.Combine(other, "root/run/agent.sock"));
        File.Delete(Path.Combine(linked, "root/run/firecracker.sock"));
        File.WriteAllText(Path.Combine(linked, "root/run/firecracker.sock"), "");
        Directory.Delete(Path.Combine(moved, "root/run"), recursive: true);
        Directory.CreateSymbolicLink(Path.Combine(moved, "root/run"), Path.Combine(other, "root/run"));
        var sockets = HostAudit.Chroots(_directory, id => id).Where(r => r.Kind == AuditedKind.Socket).ToList();
        Assert.Equal(2, sockets.Count);
        Assert.All(sockets, s => Assert.Equal("other", s.Owner));
    }

    private string MakeJail(string id)
    {
        var jail = Path.Combine(_directory, "firecracker", id);
        Directory.CreateDirectory(Path.Combine(jail, "root/run"));
        foreach (var name in new[] { "firecracker.sock", "agent.sock" })
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            _sockets.Add(socket);
            socket.Bind(new UnixDomainSocketEndPoint(Path.Combine(jail, "root/run", name)));
        }

        return jail;
    }
}
